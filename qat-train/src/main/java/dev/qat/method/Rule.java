package dev.qat.method;

import dev.qat.model.Linear;
import dev.qat.ops.Backend;
import dev.qat.ops.Grid;
import dev.qat.ops.Grid.Offset;
import dev.qat.ops.Ops;
import dev.qat.ops.Snap;
import dev.qat.ops.Snap.Half;
import dev.qat.ops.Tape;
import dev.qat.tensor.Fail;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;

/**
 * What the container of a recipe's {@code target} demands of the codes put into it: trained under its rule, they go in as they
 * are. Steps, zero points and minima pass {@link Snap} before every use, straight-through, so that what is trained and judged is
 * what will be stored.
 *
 * @param bits   the width of codes; 0 leaves it to the stage  @param fewest the smallest width that fits as well, about trained zero points
 * @param group  weights that share a step, −1 for the row; 0 leaves it to the stage  @param block of which a group must be a multiple
 * @param offset where code 0 lies at the full width  @param leastZero the smallest trained zero point
 * @param half   the precision of steps and minima  @param twoLevels whether they are 4-bit multiples of one number per 16 groups
 * @param ternary whether only −1, 0 and 1 times a step fit, which no quantizer of whole ranges makes
 */
public record Rule(String target, int bits, int fewest, int group, int block, Offset offset, int leastZero, Half half, boolean twoLevels, boolean ternary) {
    /** No target: everything as the stage says, steps in fp32. */
    public static final Rule NONE = new Rule("", 0, 0, 0, 1, Offset.POINT, 0, Half.NONE, false, false);
    private static final int USUAL_BITS = 4, USUAL_GROUP = 64;

    /** The width of a stage's codes: its own (0: none said), else the target's, else 4. */
    public int bits(int asked) {
        int b = asked > 0 ? asked : bits > 0 ? bits : USUAL_BITS;
        if (bits == 0 || b >= fewest && b <= bits) return b;
        throw refusal("bits = " + b, b, 0);
    }

    /** The grid of a linear whose stage asks for so many bits and such a group (0: none said, −1: the row); what does not fit is refused. */
    public Grid grid(Linear l, int askedBits, int askedGroup) {
        if (ternary) {
            throw Fail.usage("target %s holds -1, 0 and 1 times a step, and this stage makes 2^bits codes: put a ternary method in stages, or take gguf:q2_0 or gptq-v2:w2g64", target);
        }
        int b = bits(askedBits), columns = Math.toIntExact(l.inputs());
        int asked = askedGroup != 0 ? askedGroup : group != 0 ? group : USUAL_GROUP, g = asked < 0 ? columns : asked;
        if (columns % g != 0) {
            throw Fail.usage("group = %d does not divide the %d inputs of %s%s. Use a divisor of it, or -1 for the whole row.", g, columns, l.name,
                    target.isEmpty() ? "" : ", and the target is " + target);
        }
        boolean others = block == 1 && group != 0 && g != (group < 0 ? columns : group);
        if (g % block != 0 || others || twoLevels && g != group) throw refusal("group = " + asked, b, asked);
        if (twoLevels && columns % (16 * g) != 0) {
            throw Fail.usage("%s has %d inputs, and %s holds blocks of %d. Take gguf:q4_1 or gguf:q2_0, or gptq-v2:w2g64.", l.name, columns, target, 16 * g);
        }
        return new Grid(b, g, b == bits || offset == Offset.MINIMUM || bits == 0 && offset != Offset.POINT ? offset : Offset.POINT);
    }

    private Fail refusal(String what, int askedBits, int askedGroup) {
        int b = bits == 0 ? askedBits : Math.clamp(askedBits, fewest, bits);
        int g = group == 0 ? askedGroup : block == 1 || twoLevels || askedGroup <= 0 ? group : Math.max(block, (askedGroup + block / 2) / block * block);
        String width = fewest == bits ? "%d bits".formatted(bits) : "%d to %d bits".formatted(fewest, bits);
        String size = group == 0 ? "any group" : block == 1 || twoLevels ? "groups of %s".formatted(group < 0 ? "a whole row" : group) : "groups of a multiple of %d".formatted(block);
        return Fail.usage("%s does not fit target %s, which holds %s in %s; the nearest is bits: %d, group: %d. Leave both out and the target sets them.",
                what, target, bits == 0 ? "any width" : width, size, b, g);
    }

    /** How steps are stored; null as they are. */
    private Snap steps() {
        if (half == Half.NONE) return null;
        return twoLevels ? Snap.steps(half).twoLevels() : Snap.steps(half);
    }

    /** How the steps of frozen codes are stored: of any sign and as small as they are, since somebody else may have made them. */
    private Snap frozen() {
        return half == Half.NONE || twoLevels ? steps() : new Snap(-Snap.MOST_STEP, Snap.MOST_STEP, half, 0, 0);
    }

    /** How zero points or minima are stored; null as the quantizer itself makes them. */
    private Snap zeros(int bits, boolean minimum) {
        if (!minimum) return leastZero > 0 ? Snap.range(leastZero, (1 << bits) - 1) : null;
        return twoLevels ? Snap.minima(half).twoLevels() : Snap.minima(half);
    }

    /** A step as it will be stored. */
    public Tensor step(Tape t, Tensor step) {
        return steps() == null ? step : Ops.snap(t, step, steps());
    }

    /** A step of frozen codes as it will be stored. */
    public Tensor frozen(Tape t, Tensor step) {
        return frozen() == null ? step : Ops.snap(t, step, frozen());
    }

    /** A zero point or minimum as it will be stored. */
    Tensor zero(Tape t, Tensor zero, Grid grid) {
        Snap how = zeros(grid.bits(), grid.minimum());
        return how == null ? zero : Ops.snap(t, zero, how);
    }

    /** Rounds frozen steps in place to what will be stored; idempotent. */
    public void settle(Backend backend, Tensor step) {
        if (frozen() != null) backend.snap(step, step, frozen());
    }

    void settle(Backend backend, Tensor step, Tensor zero, Grid grid) {
        if (steps() != null) backend.snap(step, step, steps());
        Snap how = zeros(grid.bits(), grid.minimum());
        if (how != null) backend.snap(zero, zero, how);
    }

    /** Refuses codes of any stage whose width or group the container cannot hold. */
    public void check(PackedWeight p) {
        boolean wide = bits != 0 && (p.bits() > bits || p.bits() < fewest && block == 1), group = p.group() % block != 0 || twoLevels && !p.minimum();
        boolean other = block == 1 && this.group != 0 && p.group() != (this.group < 0 ? p.cols() : this.group);
        if (wide || group || other) throw refusal("%s with bits = %d, group = %d".formatted(p.name(), p.bits(), p.group()), p.bits(), p.group());
    }
}
