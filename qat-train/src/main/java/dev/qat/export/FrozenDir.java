package dev.qat.export;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.HfModelDir;
import dev.qat.data.Safetensors;
import dev.qat.data.StoredType;
import dev.qat.model.ModelConfig;
import dev.qat.tensor.Fail;
import dev.qat.tensor.PackedWeight;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The directory that {@link HfOut} writes: a Hugging Face model, and beside it packed.safetensors, where it was quantized. */
public final class FrozenDir implements Frozen {
    private static final String CODES = "packed.safetensors";
    private static final Pattern SHAPE = Pattern.compile("bits=(\\d{1,2}) group=(\\d{1,9}) columns=(\\d{1,9})( minimum| quads)?");

    private record Shape(int bits, int group, int cols, boolean minimum, boolean quads) {}

    private final HfModelDir dir;
    private final Safetensors packed; // null where nothing was quantized
    private final ModelConfig config;
    private final Map<String, Shape> linears = new LinkedHashMap<>();
    private final Map<String, String> notes = new LinkedHashMap<>();

    private FrozenDir(HfModelDir dir, Safetensors packed, Map<String, String> more) {
        this.dir = dir;
        this.packed = packed;
        this.config = Configs.of(dir);
        Map<String, long[]> shapes = shapes();
        shapes.forEach((name, shape) -> dir.expect(Configs.stored(dir, name), shape));
        Configs.refuseLeftovers(dir, shapes::containsKey);
        notes.putAll(more);
        if (packed == null) return;
        packed.metadata().forEach((key, text) -> {
            if (packed.has(key + ".codes")) linears.put(key, shape(key, text));
            else if (!key.equals("format")) notes.put(key, text);
        });
        for (String name : packed.names()) {
            String linear = name.substring(0, Math.max(0, name.lastIndexOf('.')));
            if (!linears.containsKey(linear)) throw Fail.data("%s: tensor %s has no entry in the metadata; export the run again", packed.file(), name);
        }
    }

    /** Whether codes lie beside the weights. */
    public static boolean hasCodes(Path dir) {
        return Files.exists(dir.resolve(CODES));
    }

    public static FrozenDir open(Path dir) {
        return open(dir, Map.of());
    }

    /** @param more notes on what made the model, for the files that are written from it */
    public static FrozenDir open(Path dir, Map<String, String> more) {
        HfModelDir model = HfModelDir.open(dir);
        Safetensors packed = null;
        try {
            if (hasCodes(dir)) packed = Safetensors.open(dir.resolve(CODES));
            return new FrozenDir(model, packed, more);
        } catch (RuntimeException e) {
            model.close();
            if (packed != null) packed.close();
            throw e;
        }
    }

    private Shape shape(String linear, String text) {
        Matcher m = SHAPE.matcher(text);
        if (!m.matches()) throw damaged(linear, "metadata '" + text + "'");
        Shape s = new Shape(Integer.parseInt(m.group(1)), Integer.parseInt(m.group(2)), Integer.parseInt(m.group(3)), " minimum".equals(m.group(4)), " quads".equals(m.group(4)));
        if (s.bits < 1 || s.bits > 8 || s.group < 1 || s.cols < 1 || s.cols % s.group != 0 || s.quads && (s.bits != 2 || s.cols % 4 != 0)) throw damaged(linear, "metadata '" + text + "'");
        long rows = rows(linear);
        expect(linear + ".codes", StoredType.I32, rows, s.quads ? Quads.wordsPerRow(s.cols) : PackedWeight.wordsPerRow(s.cols, s.bits));
        expect(linear + ".step", StoredType.F32, rows, s.cols / s.group);
        if (!s.quads) expect(linear + ".zero", StoredType.F32, rows, s.cols / s.group);
        dir.expect(linear + ".weight", rows, s.cols);
        return s;
    }

    private long rows(String linear) {
        long[] shape = packed.entry(linear + ".codes").shape();
        if (shape.length != 2 || shape[0] < 1 || shape[0] > Integer.MAX_VALUE) throw damaged(linear, "the shape of its codes");
        return shape[0];
    }

    private void expect(String name, StoredType type, long rows, long cols) {
        Safetensors.Entry e = packed.entry(name);
        if (e.dtype() != type || !Arrays.equals(e.shape(), new long[] {rows, cols})) {
            throw damaged(name, "%s, expected %s[%d, %d]".formatted(e, type, rows, cols));
        }
    }

    private Fail damaged(String name, String what) {
        return Fail.data("%s: %s does not describe the codes of %s; export the run again", packed.file(), what, name);
    }

    @Override
    public ModelConfig config() {
        return config;
    }

    @Override
    public ObjectNode configJson() {
        return Configs.plain(dir);
    }

    @Override
    public Optional<Path> tokenizer() {
        return Configs.tokenizer(dir);
    }

    @Override
    public Map<String, String> notes() {
        return Map.copyOf(notes);
    }

    @Override
    public List<String> quantized() {
        return List.copyOf(linears.keySet());
    }

    @Override
    public Lattice lattice(String linear) {
        Shape s = linears.get(linear);
        Fail.unless(s != null, "%s has no codes", linear);
        int rows = Math.toIntExact(rows(linear));
        int[] words = packed.bytes(linear + ".codes").toArray(ValueLayout.JAVA_INT_UNALIGNED);
        float[] step = packed.floats(linear + ".step");
        if (s.quads) {
            float[] ones = new float[step.length];
            Arrays.fill(ones, 1);
            return Lattice.of(linear, s.bits, s.group, rows, s.cols, Quads.unpack(words, rows, s.cols), step, ones);
        }
        float[] zero = packed.floats(linear + ".zero");
        for (float z : zero) {
            if (s.minimum ? !(Math.abs(z) < Float.MAX_VALUE) : z != Math.rint(z) || z < 0 || z >= 1 << s.bits) throw damaged(linear, "the zero point " + z);
        }
        return new Lattice(linear, s.bits, s.group, rows, s.cols, words, step, zero, null, s.minimum);
    }

    @Override
    public void read(String name, MemorySegment floats) {
        String linear = Configs.linear(name);
        if (linears.containsKey(linear)) {
            Lattice l = lattice(linear);
            Frozen.weights(floats, l, l.step());
        } else {
            dir.read(Configs.stored(dir, name), floats);
        }
    }

    @Override
    public void close() {
        dir.close();
        if (packed != null) packed.close();
    }
}
