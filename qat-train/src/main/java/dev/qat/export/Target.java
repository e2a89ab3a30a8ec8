package dev.qat.export;

import dev.qat.data.GgmlType;
import dev.qat.data.HfModelDir;
import dev.qat.method.Rule;
import dev.qat.model.ModelConfig;
import dev.qat.ops.Grid.Offset;
import dev.qat.ops.Snap.Half;
import dev.qat.tensor.Fail;
import dev.qat.tensor.PackedWeight;
import java.nio.file.Files;
import java.util.Collection;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A container by its name in recipes and options, and what it demands of codes trained for it.
 *
 * <pre>
 * hf                              plain fp32 weights on their lattice
 * gptq, gptq-v2, awq, compressed-tensors, each with :wBgG, :wB (whole rows) or :wBgG-sym, or bare (the stages decide)
 * compressed-tensors:wBgG-bf16    and compressed-tensors:bf16: steps and everything else as bf16, for models that run in it
 * gguf:TYPE                       q4_0, q4_1, q8_0, q2_0, q2_k, tq1_0, tq2_0; f16, f32
 * </pre>
 *
 * @param text as it was given; empty for no target  @param name of the exporter, see {@link Exports#of}
 */
public record Target(String text, String name, Rule rule) {
    private static final Pattern GRID = Pattern.compile("w(\\d)(?:g(\\d{1,6}))?(-sym)?(-bf16)?");

    public static Target of(String text) {
        if (text.isEmpty()) return new Target(text, text, Rule.NONE);
        if (text.startsWith("gguf:")) {
            GgmlType type = GgmlType.named(text.substring(5)).filter(t -> Exports.names().contains("gguf:" + t.label())).orElseThrow(() -> unknown(text));
            return new Target(text, text, gguf(text, type));
        }
        int colon = text.indexOf(':');
        String name = colon < 0 ? text : text.substring(0, colon);
        if (!Exports.names().contains(name) || name.equals("hf") && colon >= 0) throw unknown(text);
        if (name.equals("hf")) return new Target(text, name, Rule.NONE);
        if (colon < 0) return new Target(text, name, rule(text, 0, 0, 0, Offset.POINT, Half.FP16));
        boolean any = text.endsWith(":bf16");
        if ((any || text.endsWith("-bf16")) && !name.equals("compressed-tensors")) throw Fail.usage("target = %s: readers of %s expect steps in fp16; only compressed-tensors holds them as bf16", text, name);
        if (any) return new Target(text, name, rule(text, 0, 0, 0, Offset.POINT, Half.BF16));
        Matcher m = GRID.matcher(text.substring(colon + 1));
        if (!m.matches()) throw Fail.usage("target = %s: after the colon comes a grid such as w4g128, w4g128-sym or w4 (whole rows)", text);
        int bits = Integer.parseInt(m.group(1)), group = m.group(2) == null ? -1 : Integer.parseInt(m.group(2));
        if (!widths(name).contains(bits)) throw Fail.usage("target = %s: %s holds codes of %s bits; the nearest is %s:w%d%s", text, name, words(widths(name)), name,
                nearest(widths(name), bits), group < 0 ? "" : "g" + group);
        if (group == 0) throw Fail.usage("target = %s: a group has at least 1 weight; leave g0 out for whole rows", text);
        return new Target(text, name, rule(text, bits, bits, group, m.group(3) == null ? Offset.POINT : Offset.MIDDLE, m.group(4) == null ? Half.FP16 : Half.BF16));
    }

    /** Version 1 of GPTQ stores zero − 1. */
    private static Rule rule(String text, int bits, int fewest, int group, Offset offset, Half half) {
        boolean first = text.equals("gptq") || text.startsWith("gptq:");
        return new Rule(text, bits, fewest, group, 1, offset, first ? 1 : 0, half, false, false);
    }

    /** Blocks of one fp16 step: a group is whole blocks; narrower codes about a trained zero point are in the range too. */
    private static Rule gguf(String text, GgmlType type) {
        return switch (type) {
            case Q4_0 -> new Rule(text, 4, 2, 32, 32, Offset.MIDDLE, 0, Half.FP16, false, false);
            case Q4_1 -> new Rule(text, 4, 2, 32, 32, Offset.MINIMUM, 0, Half.FP16, false, false);
            case Q8_0 -> new Rule(text, 8, 2, 32, 32, Offset.MIDDLE, 0, Half.FP16, false, false);
            case Q2_0 -> new Rule(text, 2, 2, 64, 64, Offset.ONE, 0, Half.FP16, false, false);
            case Q2_K -> new Rule(text, 2, 2, 16, 16, Offset.MINIMUM, 0, Half.FP16, true, false);
            case TQ1_0, TQ2_0 -> new Rule(text, 2, 1, 256, 256, Offset.ONE, 0, Half.FP16, false, true);
            default -> Rule.NONE;
        };
    }

    private static List<Integer> widths(String name) {
        return name.equals("awq") ? List.of(4) : name.startsWith("gptq") ? List.of(2, 3, 4, 8) : List.of(2, 3, 4, 5, 6, 7, 8);
    }

    private static String words(List<Integer> widths) {
        return String.join(", ", widths.stream().map(String::valueOf).toList());
    }

    private static int nearest(List<Integer> widths, int bits) {
        return widths.stream().min((a, b) -> Integer.compare(Math.abs(a - bits), Math.abs(b - bits))).orElseThrow();
    }

    private static Fail unknown(String text) {
        return Fail.usage("target = %s is none of %s (gptq, gptq-v2, awq and compressed-tensors with a grid such as :w4g128)", text, String.join(", ", Exports.names()));
    }

    /** What a weight takes in this container, steps and zero points included. */
    public double bitsPerWeight(PackedWeight p) {
        GgmlType type = name.startsWith("gguf:") ? GgmlType.named(name.substring(5)).orElseThrow() : GgmlType.F32;
        return type.codes() && p.cols() % type.elements == 0 ? type.bitsPerWeight() : p.bitsPerWeight();
    }

    public boolean isNone() {
        return text.isEmpty();
    }

    /**
     * Refuses, before any work, what the finished run could not be written as.
     *
     * @param codes what the stages will leave, of which only shapes are looked at
     */
    public void check(Collection<PackedWeight> codes, HfModelDir source, ModelConfig config) {
        if (isNone()) return;
        boolean gguf = name.startsWith("gguf:");
        boolean needsCodes = !name.equals("hf") && !(gguf && !GgmlType.named(name.substring(5)).orElseThrow().codes());
        if (needsCodes && codes.isEmpty()) throw Fail.usage("target = %s: no stage of this recipe makes codes; add rtn or block-ap, or take gguf:f16 or hf", text);
        codes.forEach(rule::check);
        if (!name.equals("hf")) Configs.refuseOnline(config, "target = " + text);
        if (gguf) {
            GgufNames.architecture(config);
            if (!Files.exists(source.dir().resolve("tokenizer.json"))) throw Fail.data("%s: no tokenizer.json, which a GGUF file must carry; copy it beside config.json", source.dir());
            return;
        }
        for (PackedWeight p : codes) {
            if (p.minimum()) throw Fail.usage("target = %s: %s has minima, which it does not hold; gguf:q4_1 does", text, p.name());
            if (!name.equals("hf")) Exports.format(name).shape(p.name(), p.bits(), p.rows(), p.cols());
        }
    }
}
