package dev.qat.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.dockerjava.api.DockerClient;
import com.github.dockerjava.api.async.ResultCallback;
import com.github.dockerjava.api.command.InspectContainerResponse;
import com.github.dockerjava.api.exception.NotFoundException;
import com.github.dockerjava.api.model.AccessMode;
import com.github.dockerjava.api.model.Bind;
import com.github.dockerjava.api.model.Capability;
import com.github.dockerjava.api.model.Frame;
import com.github.dockerjava.api.model.HostConfig;
import com.github.dockerjava.api.model.Volume;
import dev.qat.cuda.StandIn;
import dev.qat.data.Safetensors;
import dev.qat.tensor.Fail;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.testcontainers.DockerClientFactory;

/**
 * The images, built from the Dockerfiles and run: without root, without network, with a root that cannot be written to. A job in
 * one is stopped in the middle, started again, and ends in the bytes of a job that was left alone.
 *
 * <p>Needs a Docker engine, and base images that need no registry: {@code scripts/container-bases} makes them.
 */
final class ContainerIT {
    private static final String JDK = "qat-test/jdk", BASE = "qat-test/base";
    private static final Path ROOT = Path.of(System.getProperty("qat.root"));
    private static DockerClient docker;

    @TempDir
    static Path temp;
    static TinyDir dir;

    @BeforeAll
    static void prepare() throws Exception {
        need(DockerClientFactory.instance().isDockerAvailable(), "no Docker engine answers (the error above), so the images are not tested; scripts/container-bases --engine starts one");
        docker = DockerClientFactory.lazyClient();
        for (String image : List.of(JDK, BASE)) need(has(image), "no image " + image + ", so the images are not tested; scripts/container-bases makes it");
        for (String file : List.of("Dockerfile", "Dockerfile.cpu")) {
            docker.buildImageCmd().withBaseDirectory(ROOT.toFile()).withDockerfile(ROOT.resolve("docker").resolve(file).toFile()).withNetworkMode("none")
                    .withBuildArg("JDK_IMAGE", JDK).withBuildArg("BASE_IMAGE", BASE).withTags(Set.of(tag(file))).start().awaitImageId(5, TimeUnit.MINUTES);
        }
        dir = TinyDir.in(temp);
        Files.createDirectories(temp.resolve("runs"));
        // whoever runs the tests is not the user in the container
        Files.setPosixFilePermissions(temp, PosixFilePermissions.fromString("rwxr-xr-x"));
        Files.setPosixFilePermissions(temp.resolve("runs"), PosixFilePermissions.fromString("rwxrwxrwx"));
    }

    /** Else all is skipped, which Maven counts as no test at all: so it is said here. */
    private static void need(boolean there, String without) {
        if (there) return;
        System.err.println("\n*** SKIPPED: " + without + " ***\n");
        Assumptions.abort(without);
    }

    private static String tag(String dockerfile) {
        return dockerfile.equals("Dockerfile") ? "qat-test/qat" : "qat-test/qat-cpu";
    }

    private static boolean has(String image) {
        try {
            docker.inspectImageCmd(image).exec();
            return true;
        } catch (NotFoundException e) {
            return false;
        }
    }

    /** A container as the documentation says it is to be run; the recipe's folder lies where the recipe says. */
    private static String create(String image, Map<String, String> environment, List<String> command, Bind... more) {
        HostConfig host = HostConfig.newHostConfig().withReadonlyRootfs(true).withNetworkMode("none").withTmpFs(Map.of("/tmp", "exec")).withCapDrop(Capability.ALL)
                .withBinds(Stream.concat(Stream.of(new Bind(temp.toString(), new Volume(temp.toString()), AccessMode.rw)), Stream.of(more)).toArray(Bind[]::new));
        List<String> env = environment.entrySet().stream().map(e -> e.getKey() + "=" + e.getValue()).toList();
        return docker.createContainerCmd(image).withCmd(command).withEnv(env).withHostConfig(host).exec().getId();
    }

    private static String create(String image, String... command) {
        return create(image, Map.of(), List.of(command));
    }

    private static String train(String name, Bind... more) {
        return create("qat-test/qat-cpu", Map.of(), List.of("train", dir.recipe(), "name=" + name, "checkpoint.steps=3", "stages.block-ap.epochs=4", "stages.e2e-qp.epochs=30",
                "output=" + (more.length == 0 ? temp.resolve("runs") : more[0].getVolume().getPath())), more);
    }

    private static int end(String container) {
        return docker.waitContainerCmd(container).start().awaitStatusCode(3, TimeUnit.MINUTES);
    }

    private static String log(String container) throws InterruptedException {
        StringBuilder all = new StringBuilder();
        docker.logContainerCmd(container).withStdOut(true).withStdErr(true).exec(new ResultCallback.Adapter<Frame>() {
            @Override
            public void onNext(Frame f) {
                all.append(new String(f.getPayload(), StandardCharsets.UTF_8));
            }
        }).awaitCompletion();
        return all.toString();
    }

    @Test
    void aJobStoppedInTheMiddleEndsInTheSameBytes() throws Exception {
        String whole = train("whole"), stopped = train("stopped");
        docker.startContainerCmd(whole).exec();
        assertEquals(0, end(whole), log(whole));

        docker.startContainerCmd(stopped).exec();
        Path metrics = temp.resolve("runs/stopped/metrics.jsonl");
        while (!Files.exists(metrics) || Files.size(metrics) == 0) Thread.sleep(5);
        docker.stopContainerCmd(stopped).withTimeout(60).exec();
        InspectContainerResponse state = docker.inspectContainerCmd(stopped).exec();
        assertEquals(Fail.AGAIN, state.getState().getExitCodeLong().intValue(), log(stopped));
        docker.startContainerCmd(stopped).exec();
        assertEquals(0, end(stopped), log(stopped));
        assertTrue(log(stopped).contains("resuming from the checkpoint"), log(stopped));
        for (String file : List.of("model/packed.safetensors", "model/model.safetensors")) {
            assertArrayEquals(Files.readAllBytes(temp.resolve("runs/whole").resolve(file)), Files.readAllBytes(temp.resolve("runs/stopped").resolve(file)), file);
        }
        assertEquals(10001, Files.getAttribute(metrics, "unix:uid"), "the job ran without root");
        docker.removeContainerCmd(whole).exec();
        docker.removeContainerCmd(stopped).exec();
    }

    @Test
    void aReadOnlyOutputDirectoryIsSaidAtOnce() throws Exception {
        String container = create("qat-test/qat-cpu", "train", dir.recipe(), "name=nowhere", "output=/opt/qat/out");
        docker.startContainerCmd(container).exec();
        assertEquals(Fail.IO, end(container), log(container));
        assertTrue(log(container).lines().anyMatch(l -> l.startsWith("qat: ") && l.contains("/opt/qat/out")), log(container));
        docker.removeContainerCmd(container).exec();
    }

    /** A disk that fills up in the middle of a job, and one that is read-only when it comes back: it says so, and goes on from its last checkpoint when the disk is mended. */
    @Test
    void aDiskThatFailsCostsTheStepsSinceTheLastCheckpoint() throws Exception {
        String disk = docker.createVolumeCmd().withDriver("local").withDriverOpts(Map.of("type", "tmpfs", "device", "tmpfs", "o", "size=8m,uid=10001")).exec().getName();
        Bind runs = new Bind(disk, new Volume("/disk"), AccessMode.rw);
        // the disk lasts as long as someone has it mounted
        String keeper = docker.createContainerCmd(BASE).withCmd("sleep", "300").withHostConfig(HostConfig.newHostConfig().withNetworkMode("none").withBinds(runs)
                .withCapAdd(Capability.SYS_ADMIN).withSecurityOpts(List.of("apparmor=unconfined"))).exec().getId();
        docker.startContainerCmd(keeper).exec();
        String whole = train("whole", runs), full = train("full", runs), locked = train("locked", runs);
        docker.startContainerCmd(whole).exec();
        assertEquals(0, end(whole), log(whole));

        docker.startContainerCmd(full).exec();
        shell(keeper, "until [ -s /disk/full/metrics.jsonl ]; do sleep 0.02; done; dd if=/dev/zero of=/disk/fill bs=4k; test -e /disk/fill && test ! -e /disk/full/model");
        assertEquals(Fail.IO, end(full), log(full));
        assertTrue(log(full).lines().anyMatch(l -> l.startsWith("qat: ") && l.contains("/disk/full") && l.contains("No space left on device")), log(full));
        shell(keeper, "rm /disk/fill");
        docker.startContainerCmd(full).exec();
        assertEquals(0, end(full), log(full));

        docker.startContainerCmd(locked).exec();
        shell(keeper, "until [ -s /disk/locked/metrics.jsonl ]; do sleep 0.02; done");
        docker.stopContainerCmd(locked).withTimeout(60).exec();
        assertEquals(Fail.AGAIN, end(locked), log(locked));
        shell(keeper, "mount -o remount,ro /disk");
        docker.startContainerCmd(locked).exec();
        assertEquals(Fail.IO, end(locked), log(locked));
        assertTrue(log(locked).lines().anyMatch(l -> l.startsWith("qat: ") && l.contains("/disk/locked") && l.contains("Read-only file system")), log(locked));
        shell(keeper, "mount -o remount,rw /disk");
        docker.startContainerCmd(locked).exec();
        assertEquals(0, end(locked), log(locked));

        for (String job : List.of(full, locked)) assertTrue(log(job).contains("resuming from the checkpoint"), log(job));
        for (String name : List.of("full", "locked")) shell(keeper, "cmp /disk/whole/model/packed.safetensors /disk/%1$s/model/packed.safetensors && cmp /disk/whole/model/model.safetensors /disk/%1$s/model/model.safetensors".formatted(name));
        for (String job : List.of(whole, full, locked, keeper)) docker.removeContainerCmd(job).withForce(true).exec();
        docker.removeVolumeCmd(disk).exec();
    }

    /** Runs a line in a container, which has to succeed. */
    private static void shell(String container, String line) throws InterruptedException {
        String id = docker.execCreateCmd(container).withCmd("sh", "-c", line).exec().getId();
        assertTrue(docker.execStartCmd(id).exec(new ResultCallback.Adapter<Frame>()).awaitCompletion(2, TimeUnit.MINUTES), line);
        while (docker.inspectExecCmd(id).exec().isRunning()) Thread.sleep(5); // its output ends before it does
        assertEquals(0, docker.inspectExecCmd(id).exec().getExitCodeLong(), line);
    }

    @Test
    void theCudaImageSaysWhatItLacksWithoutADriver() throws Exception {
        String train = create("qat-test/qat", "train", dir.recipe(), "name=gpu", "backend=cuda");
        docker.startContainerCmd(train).exec();
        assertEquals(Fail.DEVICE, end(train), log(train));
        assertTrue(log(train).lines().anyMatch(l -> l.startsWith("qat: ") && l.contains("libcuda.so.1")), log(train));
        String doctor = create("qat-test/qat", "doctor");
        docker.startContainerCmd(doctor).exec();
        end(doctor);
        assertTrue(log(doctor).lines().anyMatch(l -> l.matches("ok +jdk +25\\..*")), log(doctor));
        docker.removeContainerCmd(train).exec();
        docker.removeContainerCmd(doctor).exec();
    }

    /**
     * The CUDA image's Java, jar and kernels, on the stand-in where a driver's libraries would be; the kernels come from a cache, as
     * the image has no g++. A process outside the container takes the same steps.
     */
    @Test
    void theCudaImageTrainsOnTheStandIn() throws Exception {
        Path cache = Files.createDirectory(temp.resolve("cache"));
        Map<String, String> environment = new HashMap<>(StandIn.environment(cache));
        Function<String, List<String>> words = name -> List.of("train", dir.recipe(), "name=" + name, "backend=cuda", "precision=fp32", "stages.block-ap.epochs=2");
        Life outside = new Life(temp, temp.resolve("runs/outside"), environment, words.apply("outside"));
        assertEquals(0, outside.end(), outside.said());
        Path libraries = Path.of(environment.put("STANDIN_FOLDER", "/tmp"));
        try (Stream<Path> kernels = Files.walk(cache)) {
            for (Path k : kernels.toList()) Files.setPosixFilePermissions(k, PosixFilePermissions.fromString("rwxr-xr-x"));
        }
        String inside = create("qat-test/qat", environment, words.apply("inside"), new Bind(libraries.toString(), new Volume(libraries.toString()), AccessMode.ro));
        docker.startContainerCmd(inside).exec();
        assertEquals(0, end(inside), log(inside));
        assertTrue(Files.readString(temp.resolve("runs/inside/result.json")).contains("\"cuda\""), log(inside));
        assertSameTensors(outside.run.resolve("model/packed.safetensors"), temp.resolve("runs/inside/model/packed.safetensors"));
        docker.removeContainerCmd(inside).exec();
    }

    /** The head of the file says which qat wrote it, a jar or class files. */
    private static void assertSameTensors(Path a, Path b) {
        try (Safetensors x = Safetensors.open(a); Safetensors y = Safetensors.open(b)) {
            assertEquals(x.names(), y.names());
            for (String n : x.names()) assertEquals(-1, x.bytes(n).mismatch(y.bytes(n)), n);
        }
    }

    @Test
    void theHealthCheckRunsInTheImage() throws Exception {
        List<String> check = docker.inspectImageCmd("qat-test/qat-cpu").exec().getConfig().getHealthcheck().getTest();
        assertEquals("CMD", check.getFirst());
        String container = docker.createContainerCmd("qat-test/qat-cpu").withEntrypoint(check.subList(1, check.size())).withHostConfig(HostConfig.newHostConfig()
                .withReadonlyRootfs(true).withNetworkMode("none").withTmpFs(Map.of("/tmp", "exec"))).exec().getId();
        docker.startContainerCmd(container).exec();
        assertEquals(0, end(container), log(container));
        docker.removeContainerCmd(container).exec();
    }
}
