package dev.qat.method;

import dev.qat.model.Linear;
import dev.qat.model.ModelConfig;
import dev.qat.model.Slab;
import dev.qat.model.TokenRounding;
import dev.qat.ops.Ops;
import dev.qat.ops.RowGrid;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Param.Kind;
import dev.qat.tensor.Tensor;
import dev.qat.train.Run;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * LLM-QAT's quantizers (arXiv 2305.17888 §2.2), which have no parameters: the largest |value| of each weight row (or group of
 * it), of each token at a linear's input, and of each token's keys and of its values over all heads, before rope, sets a scale.
 *
 * <pre>
 * s = (2^(b−1) − 1) / (max|x| + 1e-6)      x̂ = rint(x · s) / (s + 1e-6)
 * </pre>
 * Weights of 2 bits and 1 have levels of their own, {@link MeanLevels}.
 */
final class MinMax {
    private static final float TINY = 1e-6f;

    private final Run run;
    private final Widths bits;
    private final int group;
    /** What stands on the weights' sites where they have 2 bits or 1, else nothing. */
    private List<MeanLevels> levels = List.of();

    private MinMax(Run run, Widths bits, int group) {
        this.run = run;
        this.bits = bits;
        this.group = group;
    }

    /**
     * Fills the student's sites.
     *
     * @param group      inputs of a row that share a scale; 0 or −1 for the whole row
     * @param tokens     how inputs, keys and values are rounded; weights stay symmetric, as their codes must
     */
    static MinMax install(Run run, Widths bits, int group, TokenRounding tokens) {
        run.reset();
        return add(run, bits, group, tokens);
    }

    /** The same after what is in the sites already. */
    static MinMax add(Run run, Widths bits, int group, TokenRounding tokens) {
        MinMax all = new MinMax(run, bits, group);
        if (MeanLevels.has(bits.weights())) all.levels = all.levels(run.student().linears());
        else if (bits.quantizesWeights()) for (Linear l : run.student().linears()) all.weights(l, tokens.window());
        tokens(run, tokens);
        return all;
    }

    /** The same for tokens alone: linears' inputs, keys and values. */
    static void tokens(Run run, TokenRounding tokens) {
        tokens.install(run.student());
        if (tokens.cache() != Widths.OFF) run.watch().say(saved(run.student().config, tokens));
    }

    /** What a decoder keeps of a token: whole numbers and scales, for keys and for values of every layer. */
    private static String saved(ModelConfig c, TokenRounding tokens) {
        int bits = tokens.cache();
        long parts = tokens.heads() ? c.K() : 1, width = (long) c.K() * c.D(), plain = 2L * c.layers() * width * 4;
        long whole = 2L * c.layers() * parts * (PackedWeight.wordsPerRow(width / parts, bits) * 4 + (tokens.symmetric() ? 4 : 8));
        return String.format(Locale.ROOT, "KV cache: %d bytes a token at %d bits, %d in fp32: %.1f times smaller", whole, bits, plain, (double) plain / whole);
    }

    private void weights(Linear l, boolean window) {
        int g = group(l);
        RowGrid grid = new RowGrid(bits.weights(), true, window);
        l.weightSite.add((t, w) -> Ops.rowQuant(t, w, grid, g));
    }

    private List<MeanLevels> levels(List<Linear> linears) {
        return MeanLevels.install(run.backend(), linears, bits.weights(), linears.stream().map(this::group).toList());
    }

    /** Weights of a linear that share a scale; what does not divide its row, or does not fit the recipe's target, is refused. */
    private int group(Linear l) {
        return run.rule().grid(l, bits.weights(), group <= 0 ? -1 : group).group();
    }

    /** Replaces the quantizers of these linears' weights by their codes; inputs, keys and values stay quantized by the token. */
    void freeze(List<Linear> linears) {
        if (!bits.quantizesWeights()) return;
        if (MeanLevels.has(bits.weights())) {
            freezeLevels(linears);
            return;
        }
        Memory memory = run.backend().memory();
        List<Tensor> steps = Slab.of(memory, "packed steps", slab -> linears.stream().map(l ->
                slab.param(l.name + ".step", Kind.SCALE, l.outputs(), l.inputs() / group(l)).value()).toList());
        List<PackedWeight> codes = new ArrayList<>();
        for (int i = 0; i < linears.size(); i++) codes.add(pack(memory, linears.get(i), steps.get(i)));
        run.use(linears, codes);
    }

    private void freezeLevels(List<Linear> linears) {
        List<MeanLevels> of = levels(linears);
        run.use(linears, of.stream().map(q -> q.freeze(run.backend())).toList());
        MeanLevels.free(run.backend().memory(), of);
    }

    /** ŵ = (code − 2^(b−1)) · step with step = 1 / (s + 1e-6), so the codes are those that trained. */
    private PackedWeight pack(Memory memory, Linear l, Tensor step) {
        int g = group(l), b = bits.weights();
        Tensor words = memory.tensor(l.name + ".codes", DType.I32, l.outputs(), PackedWeight.wordsPerRow(l.inputs(), b));
        Tensor zero = memory.tensor(l.name + ".zero", step.dims()), ones = memory.tensor("ones", step.dims()), whole = memory.tensor("codes", l.weight.value().dims());
        PackedWeight packed = new PackedWeight(l.name, b, g, l.inputs(), words, step, zero, null);
        run.backend().fill(ones, 1);
        run.backend().fill(zero, 1 << b - 1);
        float[] steps = run.planned() ? null : round(memory, l.weight.value(), whole, g);
        // packed as whole numbers with a step of 1, whatever the size of the true one
        run.backend().pack(packed, whole, ones, zero);
        if (steps != null) memory.set(step, steps);
        memory.free(ones.address);
        memory.free(whole.address);
        return packed;
    }

    /** Writes rint(w · s) into {@code whole} and gives 1 / (s + 1e-6), in the order of operations of rowQuant. */
    private float[] round(Memory memory, Tensor w, Tensor whole, int g) {
        float[] values = memory.floats(w), steps = new float[values.length / g];
        int top = (1 << bits.weights() - 1) - 1;
        for (int n = 0; n < steps.length; n++) {
            float most = 0;
            for (int i = n * g; i < (n + 1) * g; i++) most = Math.max(most, Math.abs(values[i]));
            float s = top / (most + TINY);
            for (int i = n * g; i < (n + 1) * g; i++) values[i] = (float) Math.rint(values[i] * s);
            steps[n] = 1 / (s + TINY);
        }
        memory.set(whole, values);
        return steps;
    }
}
