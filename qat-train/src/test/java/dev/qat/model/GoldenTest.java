package dev.qat.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.cpu.CpuBackend;
import dev.qat.cpu.ReferenceBackend;
import dev.qat.data.CausalLm;
import dev.qat.data.HfModelDir;
import dev.qat.data.TextFiles;
import dev.qat.data.Tokenizer;
import dev.qat.eval.Perplexity;
import dev.qat.eval.Protocol;
import dev.qat.ops.Backend;
import dev.qat.train.ModelLm;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.IntStream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Three real models against numbers that another program made in float64 (golden.json): logits, gradients, what they say, and
 * their perplexity. The tolerances are those of fp32: NumPy in fp32 differs by up to 1e-5 from the same numbers.
 */
class GoldenTest {
    private static final double LOGIT = 1e-4, GRADIENT = 1e-5;

    private static Backend open(String backend) {
        return backend.equals("cpu") ? new CpuBackend(0) : new ReferenceBackend();
    }

    private static Probe probe(Backend backend, Path dir) {
        try (HfModelDir source = HfModelDir.open(dir)) {
            return new Probe(backend, Model.load(source, backend.memory()));
        }
    }

    private static JsonNode golden(Path dir) throws IOException {
        return new ObjectMapper().readTree(dir.resolve("golden.json").toFile());
    }

    private static int[] ints(JsonNode list) {
        return IntStream.range(0, list.size()).map(i -> list.get(i).asInt()).toArray();
    }

    @ParameterizedTest
    @CsvSource({"cpu,stories260K", "cpu,tinystories656K", "cpu,stories3M", "reference,stories260K", "reference,tinystories656K", "reference,stories3M"})
    void logits(String on, String name) throws IOException {
        Path dir = Shared.asset(name);
        JsonNode golden = golden(dir);
        int[] ids = ints(golden.get("prompt_ids"));
        try (Backend backend = open(on)) {
            Probe probe = probe(backend, dir);
            float[] logits = probe.logits(ids);
            int V = probe.model.config.V(), last = ids.length - 1;
            double worst = 0, lse = 0, sums = 0;
            for (int t = 0; t < ids.length; t++) {
                if (golden.has("logits")) worst = Math.max(worst, furthest(logits, t * V, golden.get("logits").get(t)));
                double max = Double.NEGATIVE_INFINITY, sum = 0, exp = 0;
                int best = 0;
                for (int v = 0; v < V; v++) {
                    double x = logits[t * V + v];
                    if (x > max) best = v;
                    max = Math.max(max, x);
                    sum += x;
                }
                for (int v = 0; v < V; v++) exp += Math.exp(logits[t * V + v] - max);
                assertEquals(golden.get("argmax").get(t).asInt(), best, "the likeliest token after position " + t);
                lse = Math.max(lse, Math.abs(max + Math.log(exp) - golden.get("logsumexp").get(t).asDouble()));
                sums = Math.max(sums, Math.abs(sum - golden.get("row_sum").get(t).asDouble()) / V);
            }
            if (!golden.has("logits")) {
                worst = Math.max(furthest(logits, 0, golden.get("logits_first_position")), furthest(logits, last * V, golden.get("logits_last_position")));
            }
            say("%s on %s: logits within %.1e, log Σ exp %.1e, mean logit of a row %.1e", name, on, worst, lse, sums);
            assertTrue(worst <= LOGIT && lse <= LOGIT && sums <= LOGIT, "logits off by " + worst + ", log Σ exp by " + lse + ", row means by " + sums);
        }
    }

    private static double furthest(float[] got, int from, JsonNode expected) {
        double worst = 0;
        for (int i = 0; i < expected.size(); i++) worst = Math.max(worst, Math.abs(got[from + i] - expected.get(i).asDouble()));
        return worst;
    }

    @ParameterizedTest
    @CsvSource({"cpu,stories260K", "cpu,tinystories656K", "cpu,stories3M", "reference,stories260K", "reference,stories3M"})
    void gradients(String on, String name) throws IOException {
        Path dir = Shared.asset(name);
        JsonNode expected = golden(dir).get("loss_and_grads");
        try (Backend backend = open(on)) {
            Probe.Slopes got = probe(backend, dir).gradients(ints(expected.get("ids")), true);
            assertEquals(expected.get("loss").asDouble(), got.loss(), 1e-5);
            double worst = 0;
            String where = "";
            for (Map.Entry<String, JsonNode> e : expected.get("grads").properties()) {
                // one tied matrix has one gradient, whichever name the file stores it under
                String stored = e.getKey().equals("lm_head.weight") && !got.gradients().containsKey(e.getKey()) ? "model.embed_tokens.weight" : e.getKey();
                double off = distance(got.gradients().get(stored), e.getValue());
                if (off > worst) where = e.getKey();
                worst = Math.max(worst, off);
            }
            assertEquals(expected.get("grads").size(), got.gradients().size(), "tensors with a gradient");
            say("%s on %s: gradients within %.1e (%s), loss %.6f", name, on, worst, where, got.loss());
            assertTrue(worst <= GRADIENT, where + " is off by " + worst);
        }
    }

    /**
     * What is known of ‖got − expected‖ / ‖expected‖: it is at least the difference of the norms, that of the largest magnitudes,
     * and that of the first 8 values, which are held to their share of the norm.
     */
    private static double distance(float[] got, JsonNode expected) {
        double square = 0, max = 0, first = 0, firstNorm = 0;
        for (float g : got) {
            square += (double) g * g;
            max = Math.max(max, Math.abs(g));
        }
        JsonNode eight = expected.get("first8");
        for (int i = 0; i < eight.size(); i++) {
            first += Math.pow(got[i] - eight.get(i).asDouble(), 2);
            firstNorm += Math.pow(eight.get(i).asDouble(), 2);
        }
        double l2 = expected.get("l2").asDouble(), absmax = expected.get("absmax").asDouble();
        double share = Math.max(Math.sqrt(firstNorm), l2 * Math.sqrt((double) eight.size() / got.length));
        return Math.max(Math.abs(Math.sqrt(square) - l2) / l2, Math.max(Math.abs(max - absmax) / l2, Math.sqrt(first) / share));
    }

    @ParameterizedTest
    @CsvSource({"cpu,stories260K,64", "cpu,tinystories656K,64", "cpu,stories3M,64", "reference,stories260K,16"})
    void whatTheySay(String on, String name, int tokens) throws IOException {
        Path dir = Shared.asset(name);
        JsonNode golden = golden(dir);
        try (Backend backend = open(on); Tokenizer tokenizer = Tokenizer.of(dir)) {
            Probe probe = probe(backend, dir);
            for (String from : new String[] {"prompt", "bos"}) {
                JsonNode expected = golden.get("greedy_64_from_" + from);
                int[] said = probe.greedy(from.equals("bos") ? new int[] {tokenizer.bos()} : ints(golden.get("prompt_ids")), tokens);
                assertArrayEquals(Arrays.copyOf(ints(expected.get("ids")), tokens), said, name + " from " + from);
            }
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"stories260K", "tinystories656K", "stories3M"})
    void perplexities(String name) throws IOException {
        Path dir = Shared.asset(name);
        String heldOut = TextFiles.read(Shared.asset("text/heldout_stories.txt")).getFirst().text();
        String tail = TextFiles.part(TextFiles.read(Shared.asset("text/tinystories_head.txt")).getFirst().text(), 160_027, 0);
        assertTrue(tail.startsWith("The girl was a bit scared"), tail.substring(0, 30));
        JsonNode protocols = golden(dir).get("perplexity").get("results");
        try (Backend backend = new CpuBackend(0); Tokenizer tokenizer = Tokenizer.of(dir); CausalLm lm = new ModelLm(probe(backend, dir).model, backend)) {
            for (Map.Entry<String, JsonNode> e : protocols.properties()) {
                JsonNode fp = e.getValue().get("fp32");
                Function<String, int[]> encode = e.getKey().contains("dropped") ? text -> without80(tokenizer.encodeWithBos(text)) : tokenizer::encodeWithBos;
                check(name, lm, Protocol.STORIES, heldOut, 512, encode, fp.get("heldout_ppl").asDouble(), fp.get("heldout_tokens").asLong());
                check(name, lm, Protocol.WINDOWS, tail, 256, encode, fp.get("ts_tail_ppl").asDouble(), fp.get("ts_tail_tokens").asLong());
            }
        }
    }

    private static void check(String name, CausalLm lm, Protocol protocol, String text, int window, Function<String, int[]> encode, double perplexity, long tokens) {
        Perplexity p = Perplexity.measure(lm, protocol, protocol.cut(text, window, encode), 8, _ -> {});
        say("%s, %s: %.5f, expected %.4f", name, protocol.key(), p.perplexity(), perplexity);
        assertEquals(tokens, p.tokens(), name + " by " + protocol);
        assertEquals(perplexity, p.perplexity(), 0.51e-4 + 1e-5 * perplexity, name + " by " + protocol);
    }

    /** tinystories656K was trained without the leading "▁" that its own tokenizer.json prepends after BOS. */
    private static int[] without80(int[] ids) {
        assertEquals(80, ids[1]);
        return IntStream.range(0, ids.length).filter(i -> i != 1).map(i -> ids[i]).toArray();
    }

    private static void say(String format, Object... args) {
        System.out.println("golden: " + String.format(Locale.ROOT, format, args));
    }
}
