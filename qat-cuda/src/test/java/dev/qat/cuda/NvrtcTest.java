package dev.qat.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.opentest4j.TestAbortedException;

/**
 * NVIDIA's own NVRTC takes every kernel, through the code that {@link JCudaDevice} compiles with. It needs no device, only the
 * library: {@code -Dqat.nvrtc=FOLDER} names the folder that holds libnvrtc.so.12 and its libnvrtc-builtins.
 */
class NvrtcTest {
    @Test
    void everyKernelCompilesWithTheRealNvrtc() throws Exception {
        String folder = System.getProperty("qat.nvrtc");
        if (folder == null) throw new TestAbortedException("-Dqat.nvrtc=FOLDER names no folder with libnvrtc.so.12");
        List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path"), Compiling.class.getName()));
        try (Stream<Path> files = Files.list(Path.of(folder))) {
            files.map(Path::toString).filter(f -> f.contains("libnvrtc")).sorted().forEach(command::add);     // builtins sort first
        }
        Process p = new ProcessBuilder(command).redirectErrorStream(true).start();
        String said = new String(p.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(0, p.waitFor(), said);
        assertTrue(said.matches("(?s).*NVRTC 12\\.\\d+: [1-9]\\d* files compiled\\s*"), said);
        System.out.println(said.strip());
    }

    /** Compiles all kernel files for two real architectures and for one that this NVRTC does not know. */
    static final class Compiling {
        public static void main(String[] libraries) throws Exception {
            for (String l : libraries) System.load(l);
            Path cache = Files.createTempDirectory("nvrtc");
            int files = 0;
            try (Stream<Path> all = Files.list(Path.of(Compiling.class.getResource("/kernels/common.cuh").toURI()).getParent())) {
                for (Path f : all.filter(f -> f.toString().endsWith(".cu")).sorted().toList()) {
                    files++;
                    for (int capability : new int[] {80, 90, 999})
                        new Kernels(cache, JCudaDevice.nvrtc(capability)).image(Kernels.source(f.getFileName().toString().replace(".cu", "")), List.of());
                }
            }
            System.out.println("NVRTC " + JCudaDevice.nvrtc(80).version() + ": " + files + " files compiled");
        }
    }
}
