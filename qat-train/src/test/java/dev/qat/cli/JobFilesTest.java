package dev.qat.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.dataformat.yaml.YAMLMapper;
import com.google.gson.JsonElement;
import com.google.gson.JsonParser;
import dev.qat.tensor.Fail;
import io.kubernetes.client.openapi.JSON;
import io.kubernetes.client.openapi.models.V1Job;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The files of docker/ as far as a machine without Slurm and Kubernetes can try them: the batch script is run with stand-ins for qat and scontrol. */
final class JobFilesTest {
    private static final Path DOCKER = Path.of(System.getProperty("qat.root")).resolve("docker");

    @TempDir
    Path temp;

    private void command(String name, String script) throws IOException {
        Path file = Files.writeString(temp.resolve(name), "#!/usr/bin/env bash\n" + script);
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rwxr-xr-x"));
    }

    private Process batch(String... words) throws IOException {
        List<String> all = new ArrayList<>(List.of("bash", DOCKER.resolve("slurm/train.sbatch").toString()));
        all.addAll(List.of(words));
        ProcessBuilder b = new ProcessBuilder(all).directory(temp.toFile()).redirectErrorStream(true).redirectOutput(temp.resolve("out").toFile());
        b.environment().put("PATH", temp + ":" + System.getenv("PATH"));
        b.environment().put("QAT", "qat");
        b.environment().put("SLURM_JOB_ID", "77");
        b.environment().put("SLURM_ARRAY_JOB_ID", "70");
        b.environment().put("SLURM_ARRAY_TASK_ID", "3");
        return b.start();
    }

    private int end(Process p) throws Exception {
        assertTrue(p.waitFor(30, TimeUnit.SECONDS), "it hangs");
        return p.exitValue();
    }

    @Test
    void slurmPassesTheSignalOnAndQueuesTheTaskAgain() throws Exception {
        command("qat", "echo \"$@\" >args; trap 'exit 75' USR1; touch up; while :; do sleep 0.05; done\n");
        command("scontrol", "[[ $1 == show ]] && echo JobState=RUNNING || echo \"$@\" >queued\n");
        Process p = batch("r.yaml", "name=part-{part}");
        while (p.isAlive() && !Files.exists(temp.resolve("up"))) Thread.sleep(5);
        new ProcessBuilder("kill", "-USR1", String.valueOf(p.pid())).start().waitFor();
        assertEquals(0, end(p), Files.readString(temp.resolve("out")));
        assertEquals("requeue 70_3\n", Files.readString(temp.resolve("queued")));
        assertEquals("train r.yaml name=part-3\n", Files.readString(temp.resolve("args")));
    }

    /** TERM comes from scancel as well as from preemption; what was cancelled is not to come back. */
    @Test
    void slurmDoesNotQueueAgainWhatWasCancelled() throws Exception {
        command("qat", "trap 'exit 75' USR1; touch up; while :; do sleep 0.05; done\n");
        command("scontrol", "[[ $1 == show ]] && echo '   JobState=CANCELLED Reason=None' || touch queued\n");
        Process p = batch("r.yaml");
        while (p.isAlive() && !Files.exists(temp.resolve("up"))) Thread.sleep(5);
        p.destroy();
        assertEquals(Fail.AGAIN, end(p), Files.readString(temp.resolve("out")));
        assertTrue(Files.notExists(temp.resolve("queued")));
    }

    @Test
    void slurmPassesOtherEndsOn() throws Exception {
        command("scontrol", "touch queued\n");
        for (int code : List.of(0, Fail.NUMERIC)) {
            command("qat", "exit " + code + "\n");
            assertEquals(code, end(batch("r.yaml")));
        }
        command("qat", "echo \"$@\" >args\n");
        assertEquals(0, end(batch("generate", "g.yaml", "--part", "{part}/4")));
        assertEquals("generate g.yaml --part 3/4\n", Files.readString(temp.resolve("args")));
        assertTrue(Files.notExists(temp.resolve("queued")));
        assertEquals(Fail.USAGE, end(batch()));
    }

    @Test
    void scriptsPassShellcheck() throws Exception {
        assumeTrue(Stream.of(System.getenv("PATH").split(":")).anyMatch(d -> Files.isExecutable(Path.of(d, "shellcheck"))), "SKIPPED: no shellcheck on the path");
        List<String> command = new ArrayList<>(List.of("shellcheck", "-S", "warning"));
        for (String s : List.of("docker/slurm/train.sbatch", "scripts/container-bases", "scripts/gpu-check", ".ci/run", "qat")) command.add(DOCKER.resolveSibling(s).toString());
        Process p = new ProcessBuilder(command).redirectErrorStream(true).start();
        String said = new String(p.getInputStream().readAllBytes());
        assertEquals(0, p.waitFor(), said);
    }

    /** Read as an API server reads them: a field it does not know, one it misses and a value of the wrong kind are refused. */
    @Test
    void kubernetesKnowsEveryField() throws IOException {
        for (String file : List.of("job.yaml", "indexed-job.yaml")) {
            String text = Files.readString(DOCKER.resolve("kubernetes").resolve(file));
            job(text);
            for (String[] slip : new String[][] {{"readOnlyRootFilesystem", "readOnlyRootFileSystem"}, {"operator: In, ", ""}, {"completions: ", "completions: many, not "}, {"backoffLimit", "backOffLimit"}}) {
                assertTrue(text.contains(slip[0]), slip[0]);
                assertThrows(RuntimeException.class, () -> job(text.replace(slip[0], slip[1])), file + ": " + slip[1]);
            }
        }
    }

    private static V1Job job(String yaml) throws IOException {
        JsonElement json = JsonParser.parseString(new YAMLMapper().readTree(yaml).toString());
        V1Job.validateJsonElement(json);
        return JSON.getGson().fromJson(json, V1Job.class);
    }

    /** What batch/v1 Job requires of a podFailurePolicy, and what keeps a pod without root, network rights and a writable root. */
    @Test
    void kubernetesJobsReplaceWhatEndsWith75() throws IOException {
        for (String file : List.of("job.yaml", "indexed-job.yaml")) {
            JsonNode job = new YAMLMapper().readTree(DOCKER.resolve("kubernetes").resolve(file).toFile()), spec = job.get("spec"), pod = spec.get("template").get("spec");
            assertEquals("batch/v1 Job", job.get("apiVersion").asText() + " " + job.get("kind").asText());
            assertEquals("Never", pod.get("restartPolicy").asText(), "podFailurePolicy requires it");
            JsonNode container = pod.get("containers").get(0), again = spec.get("podFailurePolicy").get("rules").get(0);
            assertEquals("Ignore", again.get("action").asText());
            assertEquals(Fail.AGAIN, again.get("onExitCodes").get("values").get(0).asInt());
            for (JsonNode rule : spec.get("podFailurePolicy").get("rules")) {
                assertTrue(Set.of("Ignore", "FailJob", "FailIndex", "Count").contains(rule.get("action").asText()));
                assertTrue(rule.has("onExitCodes") != rule.has("onPodConditions"), "exactly one of them: " + rule);
                if (rule.has("onExitCodes")) assertEquals(container.get("name").asText(), rule.get("onExitCodes").get("containerName").asText());
            }
            assertTrue(container.get("securityContext").get("readOnlyRootFilesystem").asBoolean());
            assertTrue(pod.get("securityContext").get("runAsNonRoot").asBoolean());
            assertTrue(pod.get("terminationGracePeriodSeconds").asInt() >= 60);
            Set<String> mounts = new TreeSet<>(container.get("volumeMounts").findValuesAsText("name")), volumes = new TreeSet<>();
            for (JsonNode v : pod.get("volumes")) volumes.add(v.get("name").asText());
            assertEquals(volumes, mounts);
            boolean indexed = file.startsWith("indexed");
            assertEquals(indexed, spec.path("completionMode").asText().equals("Indexed"));
            // FailIndex is only allowed with a limit per index, which is only allowed in an Indexed job
            assertEquals(indexed, spec.has("backoffLimitPerIndex"));
        }
    }

    @Test
    void composeKeepsAJobRunningWithoutRights() throws IOException {
        JsonNode compose = new YAMLMapper().readTree(DOCKER.resolve("compose.yaml").toFile()), job = compose.get("x-job");
        assertEquals("on-failure", job.get("restart").asText());
        assertTrue(job.get("read_only").asBoolean());
        assertEquals("none", job.get("network_mode").asText());
        assertEquals("nvidia", compose.get("services").get("gpu").get("deploy").get("resources").get("reservations").get("devices").get(0).get("driver").asText());
        for (JsonNode service : compose.get("services")) assertTrue(Files.isRegularFile(DOCKER.resolveSibling(service.get("build").get("dockerfile").asText())));
    }

    /** The two images differ in their base and in what only a GPU needs. */
    @Test
    void theDockerfilesAreTwins() throws IOException {
        List<String> cuda = Files.readAllLines(DOCKER.resolve("Dockerfile")), cpu = Files.readAllLines(DOCKER.resolve("Dockerfile.cpu"));
        List<String> differ = new ArrayList<>();
        for (int i = 0; i < Math.max(cuda.size(), cpu.size()); i++) if (!cuda.get(i).equals(cpu.get(i)) && !cuda.get(i).startsWith("#")) differ.add(cuda.get(i).split("[ =]")[0] + " " + cuda.get(i).split("[ =]")[1]);
        assertEquals(List.of("ARG BASE_IMAGE", "ENV HOME"), differ);
        assertTrue(cuda.stream().anyMatch(l -> l.startsWith("ENTRYPOINT [\"")), "exec form, so that Java gets the signals");
        assertTrue(cuda.contains("USER 10001:10001"));
    }
}
