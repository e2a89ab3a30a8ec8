package dev.qat.export;

import dev.qat.data.GgmlType;
import dev.qat.tensor.Fail;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;

/** Our end of a {@link LlamaCpp} process: starts it on the library inside de.kherud:llama's jar, asks, and ends it. */
final class LlamaProcess implements AutoCloseable {
    private static final String LIBRARY = "de/kherud/llama/Linux/x86_64/libjllama.so";
    private static final int LINES = 8; // of its standard error kept for a failure's sentence

    private final Process process;
    private final DataOutputStream out;
    private final DataInputStream in;
    private final Deque<String> said = new ArrayDeque<>();

    private LlamaProcess(Process process) {
        this.process = process;
        this.out = new DataOutputStream(new BufferedOutputStream(process.getOutputStream(), 1 << 16));
        this.in = new DataInputStream(new BufferedInputStream(process.getInputStream(), 1 << 16));
        Thread.ofVirtual().start(() -> listen(process.errorReader(StandardCharsets.UTF_8)));
    }

    /** Starts the process; a machine on which the library does not load is a device failure. */
    static LlamaProcess start() {
        Path library = unpack();
        try {
            Path classes = Path.of(LlamaCpp.class.getProtectionDomain().getCodeSource().getLocation().toURI());
            var process = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xmx1g", "-XX:+UseSerialGC",
                    "--enable-native-access=ALL-UNNAMED", "-cp", classes.toString(), LlamaCpp.class.getName(), library.toString()).start();
            LlamaProcess llama = new LlamaProcess(process);
            llama.ask(_ -> {}, DataInputStream::readInt);
            return llama;
        } catch (IOException | URISyntaxException e) {
            throw Fail.device("llama.cpp cannot be started: %s", e.getMessage());
        } finally {
            delete(library); // its mapping outlives the name
        }
    }

    private static Path unpack() {
        try (InputStream jar = LlamaProcess.class.getClassLoader().getResourceAsStream(LIBRARY)) {
            boolean linux = System.getProperty("os.name").equals("Linux") && System.getProperty("os.arch").equals("amd64");
            if (jar == null || !linux) throw Fail.device("llama.cpp is not there: de.kherud:llama's jar is not on the class path, or this is not Linux on amd64");
            Path file = Files.createTempFile("qat-llama", ".so");
            Files.copy(jar, file, java.nio.file.StandardCopyOption.REPLACE_EXISTING);
            return file;
        } catch (IOException e) {
            throw Fail.io(e, "cannot unpack llama.cpp into %s: %s; give a writable folder with -Djava.io.tmpdir=...", System.getProperty("java.io.tmpdir"), e.getMessage());
        }
    }

    private static void delete(Path file) {
        try {
            Files.deleteIfExists(file);
        } catch (IOException e) {
            System.err.println("qat: could not remove " + file + ": " + e.getMessage());
        }
    }

    /** Keeps the last lines that tell of trouble, and the last lines at all. */
    private void listen(BufferedReader error) {
        try (error) {
            for (String line; (line = error.readLine()) != null;) {
                synchronized (said) {
                    if (said.size() == LINES) said.removeFirst();
                    said.addLast(line);
                }
            }
        } catch (IOException e) {
            return; // the process has ended
        }
    }

    /** What it said last that reads like a reason. */
    String reason() {
        synchronized (said) {
            List<String> reasons = said.stream().filter(l -> l.contains("rror") || l.contains("fail") || l.contains("qat:")).toList();
            String text = String.join("; ", reasons.isEmpty() ? said : reasons);
            return text.isEmpty() ? "it said nothing" : text;
        }
    }

    /** A request is written, and an answer read. */
    interface Writing {
        void to(DataOutputStream out) throws IOException;
    }

    interface Reading<T> {
        T from(DataInputStream in) throws IOException;
    }

    <T> T ask(Writing request, Reading<T> answer) {
        try {
            request.to(out);
            out.flush();
            return answer.from(in);
        } catch (IOException e) {
            try {
                if (process.waitFor(2, java.util.concurrent.TimeUnit.SECONDS)) Thread.sleep(50); // let its last words arrive
            } catch (InterruptedException _) {
                Thread.currentThread().interrupt();
            }
            throw Fail.device("llama.cpp's process ended (exit %s): %s", process.isAlive() ? "none" : process.exitValue(), reason());
        }
    }

    /** The ids llama.cpp gives a text, with its BOS where the file asks for one; a model must be loaded. */
    int[] tokenize(String text) {
        byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
        return ask(o -> {
            o.writeByte('T');
            o.writeInt(utf8.length);
            o.write(utf8);
        }, i -> ints(i, i.readInt()));
    }

    /** llama.cpp's own rounding of weights to a type.   weights (rows · cols) */
    byte[] quantize(GgmlType type, float[] weights, int rows, int cols) {
        int size = Math.toIntExact(rows * type.rowBytes(cols));
        return ask(o -> {
            o.writeByte('Q');
            o.writeInt(type.id);
            o.writeLong(rows);
            o.writeLong(cols);
            o.writeInt(size);
            for (float w : weights) o.writeFloat(w);
        }, i -> i.readNBytes(size));
    }

    static int[] ints(DataInputStream in, int n) throws IOException {
        int[] values = new int[n];
        for (int i = 0; i < n; i++) values[i] = in.readInt();
        return values;
    }

    static void write(DataOutputStream out, int[] values) throws IOException {
        for (int v : values) out.writeInt(v);
    }

    @Override
    public void close() {
        try {
            out.close();
        } catch (IOException e) {
            process.destroy(); // it is gone already, or will be
        }
        try {
            if (!process.waitFor(5, java.util.concurrent.TimeUnit.SECONDS)) process.destroyForcibly();
        } catch (InterruptedException _) {
            process.destroyForcibly();
            Thread.currentThread().interrupt();
        }
    }
}
