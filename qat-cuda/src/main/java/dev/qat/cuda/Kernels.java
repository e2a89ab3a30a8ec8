package dev.qat.cuda;

import dev.qat.tensor.Fail;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The texts of {@code /kernels/*.cu} and what a compiler made of them, kept on disk: a kernel is compiled once per text,
 * headers, options, architecture and compiler version. Entries are written beside and moved into place, so processes may
 * share the folder; each begins with its own checksum, and one that does not match is compiled anew.
 */
public final class Kernels {
    private static final String ROOT = "/kernels/", MAGIC = "qat-kernel-1 ";
    private static final Pattern INCLUDE = Pattern.compile("^\\s*#\\s*include\\s*\"([^\"]+)\"", Pattern.MULTILINE);
    private static final Pattern PLACE = Pattern.compile("([\\w./-]+\\.cuh?)(?:\\((\\d+)\\)|:(\\d+))");
    private static final int HASH = 64, AROUND = 3;

    /** Turns a source into an image for the device found. */
    interface Compiler {
        /** What an image depends on besides source and options: the architecture and the compiler's version. */
        String identity();

        byte[] compile(Source source, List<String> options) throws Rejected;
    }

    /** A kernel file and the headers it includes, by the names it includes them under. */
    record Source(String name, String text, Map<String, String> headers) {}

    /** The compiler's log about a source it would not take. */
    static final class Rejected extends Exception {
        Rejected(String log) {
            super(log);
        }
    }

    private final Path cache;
    private final Compiler compiler;
    private int compiled;

    Kernels(Path cache, Compiler compiler) {
        this.cache = cache;
        this.compiler = compiler;
    }

    /** {@code $QAT_CACHE/kernels} where that is set, else {@code ~/.cache/qat/kernels}. */
    public static Path cache() {
        String set = System.getenv("QAT_CACHE");
        return set != null && !set.isBlank() ? Path.of(set, "kernels") : Path.of(System.getProperty("user.home"), ".cache", "qat", "kernels");
    }

    /** How many sources this object had to have compiled, for want of an entry. */
    public int compiled() {
        return compiled;
    }

    /** The text of a kernel file and, found through its includes, of its headers. */
    static Source source(String file) {
        String name = file + ".cu", text = resource(name);
        Fail.unless(text != null, "no kernel file %s%s on the class path", ROOT, name);
        Map<String, String> headers = new LinkedHashMap<>();
        includes(name, text, headers);
        return new Source(name, text, headers);
    }

    private static void includes(String by, String text, Map<String, String> headers) {
        for (Matcher m = INCLUDE.matcher(text); m.find(); ) {
            if (headers.containsKey(m.group(1))) continue;
            String header = resource(m.group(1));
            Fail.unless(header != null, "%s includes \"%s\", which is not in %s on the class path", by, m.group(1), ROOT);
            headers.put(m.group(1), header);
            includes(m.group(1), header, headers);
        }
    }

    private static String resource(String name) {
        try (InputStream in = Kernels.class.getResourceAsStream(ROOT + name)) {
            return in == null ? null : new String(in.readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException e) {
            throw Fail.io(e, "cannot read the resource %s%s", ROOT, name);
        }
    }

    /** The image of a source: from the folder, or compiled now and put there. */
    byte[] image(Source source, List<String> options) {
        Path entry = cache.resolve(key(source, options));
        byte[] image = read(entry);
        if (image != null) return image;
        try {
            image = compiler.compile(source, options);
        } catch (Rejected r) {
            throw Fail.internal("%s does not compile with %s for %s:%n%s%n%s", source.name, options, compiler.identity(),
                r.getMessage().strip(), numbered(source, r.getMessage()));
        }
        compiled++;
        write(entry, image);
        return image;
    }

    private String key(Source source, List<String> options) {
        StringBuilder all = new StringBuilder(MAGIC).append(compiler.identity()).append('\0').append(options);
        all.append('\0').append(source.name).append('\0').append(source.text);
        source.headers.forEach((name, text) -> all.append('\0').append(name).append('\0').append(text));
        return source.name.replace('/', '-') + "-" + hash(all.toString().getBytes(StandardCharsets.UTF_8)).substring(0, 32);
    }

    private static String hash(byte[] bytes) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError(e);
        }
    }

    private static byte[] read(Path entry) {
        try {
            byte[] all = Files.readAllBytes(entry);
            int head = MAGIC.length() + HASH + 1;
            if (all.length < head) return null;
            byte[] image = Arrays.copyOfRange(all, head, all.length);
            return new String(all, 0, head, StandardCharsets.ISO_8859_1).equals(MAGIC + hash(image) + "\n") ? image : null;
        } catch (IOException e) {
            return null;
        }
    }

    private static void write(Path entry, byte[] image) {
        try {
            Files.createDirectories(entry.getParent());
            Path beside = Files.createTempFile(entry.getParent(), "new-", ".tmp");
            try {
                Files.write(beside, join((MAGIC + hash(image) + "\n").getBytes(StandardCharsets.ISO_8859_1), image));
                Files.move(beside, entry, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
            } finally {
                Files.deleteIfExists(beside);
            }
        } catch (IOException e) {
            System.getLogger("qat").log(System.Logger.Level.WARNING, "compiled kernels are not kept: cannot write " + entry
                + " (" + e + "); QAT_CACHE may name another folder");
        }
    }

    private static byte[] join(byte[] a, byte[] b) {
        byte[] all = Arrays.copyOf(a, a.length + b.length);
        System.arraycopy(b, 0, all, a.length, b.length);
        return all;
    }

    /** The lines that a log speaks of, and those around them, with their numbers. */
    static String numbered(Source source, String log) {
        Map<String, TreeSet<Integer>> places = new LinkedHashMap<>();
        for (Matcher m = PLACE.matcher(log); m.find(); )
            places.computeIfAbsent(m.group(1), _ -> new TreeSet<>()).add(Integer.parseInt(m.group(2) != null ? m.group(2) : m.group(3)));
        StringBuilder s = new StringBuilder();
        places.forEach((name, lines) -> {
            String text = name.equals(source.name) ? source.text : source.headers.get(name);
            if (text != null) window(s.append(name).append(":\n"), text.split("\n", -1), lines);
        });
        return s.toString();
    }

    private static void window(StringBuilder s, String[] text, TreeSet<Integer> marked) {
        int last = 0;
        for (int line = 1; line <= text.length; line++) {
            Integer near = marked.ceiling(line - AROUND);
            if (near == null || near > line + AROUND) continue;
            if (last != 0 && last != line - 1) s.append("     ...\n");
            s.append("%s%4d  %s%n".formatted(marked.contains(line) ? ">" : " ", line, text[line - 1]));
            last = line;
        }
    }
}
