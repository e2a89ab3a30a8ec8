package dev.qat.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import dev.qat.cpu.CpuBackend;
import dev.qat.method.Methods;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.train.Recipe;
import dev.qat.train.Runner;
import dev.qat.train.Stop;
import dev.qat.watch.Watch;
import dev.qat.watch.Witness;
import java.io.IOException;
import java.lang.reflect.Proxy;
import java.lang.reflect.RecordComponent;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

/** Every method there is, stopped in the middle and run again, ends in the bytes of a run left alone: a new one is tested by being in the registry. */
final class ResumeEveryMethodTest {
    @TempDir
    static Path temp;

    @TestFactory
    Stream<DynamicTest> stoppedAndRunAgain() throws IOException {
        TinyDir dir = TinyDir.in(temp);
        return new TreeMap<>(Methods.all()).entrySet().stream().map(e -> dynamicTest(e.getKey(), () -> check(dir, e.getKey(), e.getValue())));
    }

    private static void check(TinyDir dir, String method, Class<? extends Record> type) throws IOException {
        Set<String> keys = Arrays.stream(type.getRecordComponents()).map(RecordComponent::getName).collect(Collectors.toSet());
        StringBuilder stage = new StringBuilder("{method: " + method);
        Map.of("group", "12", "batch", "4", "epochs", "2", "steps", "6").forEach((k, v) -> {
            if (keys.contains(k)) stage.append(", ").append(k).append(": ").append(v);
        });
        if (keys.contains("course")) stage.append(", course: {epochs: 2, batch: 4}");
        String stages = "stages=[" + (method.equals("full-precision") ? "" : "{method: rtn, bits: 3, group: 12}, ") + stage + "}]";
        assertEquals(0, run(dir, method + "-whole", stages, Integer.MAX_VALUE), method);
        int[] total = {0};
        for (int at : List.of(1, 3, 7, -6, -8, -11, -19)) {
            String name = method + at;
            int first = run(dir, name, stages, at);
            if (first == Fail.AGAIN) {
                total[0]++;
                assertEquals(0, run(dir, name, stages, Integer.MAX_VALUE), method);
            }
            assertSame(temp.resolve("runs").resolve(method + "-whole"), temp.resolve("runs").resolve(name));
        }
        System.out.println("ResumeEveryMethodTest: " + method + " stopped " + total[0] + " times");
    }

    /** @param signs asks for an end at this sign of life; where negative, when attention is computed for the n-th time, which may be in the middle of a pass over all windows */
    private static int run(TinyDir dir, String name, String stages, int signs) {
        Recipe r = RecipeReader.read(Path.of(dir.recipe()), List.of("name=" + name, stages), Recipe.class, Train.STAGES);
        Stop stop = new Stop();
        try (Backend cpu = new CpuBackend(1)) {
            int[] left = {signs};
            Watch watch = new Witness((title, done) -> {
                if (--left[0] == 0) stop.ask("the test");
            });
            if (signs == Integer.MAX_VALUE) {
                Runner.run(r, RecipeReader.render(r, Train.STAGES), Map.of("qat", "test"), cpu, watch, stop);
                return 0;
            }
            try {
                Runner.run(r, RecipeReader.render(r, Train.STAGES), Map.of("qat", "test"), signs > 0 ? cpu : asking(cpu, -signs, stop), watch, stop);
                return 0; // a method that takes fewer steps
            } catch (Fail e) {
                if (e.code() != Fail.AGAIN) throw e;
                return e.code();
            }
        }
    }

    private static Backend asking(Backend cpu, int at, Stop stop) {
        int[] left = {at};
        return (Backend) Proxy.newProxyInstance(Backend.class.getClassLoader(), new Class<?>[] {Backend.class}, (_, op, args) -> {
            if (op.getName().equals("attention") && --left[0] == 0) stop.ask("the test");
            return op.invoke(cpu, args);
        });
    }

    private static void assertSame(Path a, Path b) throws IOException {
        for (String file : List.of("model/model.safetensors", "model/packed.safetensors")) {
            assertEquals(Files.exists(a.resolve(file)), Files.exists(b.resolve(file)), file);
            if (Files.exists(a.resolve(file))) assertArrayEquals(Files.readAllBytes(a.resolve(file)), Files.readAllBytes(b.resolve(file)), b.getFileName() + ": " + file);
        }
    }
}
