package dev.qat.ops;

import dev.qat.tensor.DType;
import dev.qat.tensor.PackedWeight;
import java.util.SplittableRandom;
import java.util.function.IntFunction;
import java.util.function.IntToDoubleFunction;

/** One argument of an op's call as a row of the contract describes it: its role, its shape, what it holds. */
sealed interface Arg {
    /** The parameter's name in {@link Backend}. */
    String name();

    /** Floats that are read; {@code operand} ones are stored in the backend's operand type. */
    record In(String name, boolean asOperand, float[] values, long... dims) implements Arg {
        In operand() {
            return new In(name, true, values, dims);
        }

        /** Half further from zero, for what bends sharply there. */
        In awayFromZero() {
            return holding(i -> values[i] + Math.copySign(0.5, values[i]));
        }

        In holding(float... other) {
            return new In(name, asOperand, other, dims);
        }

        In holding(IntToDoubleFunction at) {
            float[] v = new float[values.length];
            for (int i = 0; i < v.length; i++) v[i] = (float) at.applyAsDouble(i);
            return holding(v);
        }
    }

    /** Floats that are read and overwritten, as by an optimizer. */
    record Kept(String name, boolean sameBits, float[] values, long... dims) implements Arg {
        Kept exact() {
            return new Kept(name, true, values, dims);
        }
    }

    record Ints(String name, int[] values, long... dims) implements Arg {}

    /** What is written, all of it; {@code sameBits}: with the same bits on every backend. Type null: the operand type. */
    record Out(String name, DType type, boolean sameBits, long... dims) implements Arg {
        Out exact() {
            return new Out(name, type, true, dims);
        }

        Out operand() {
            return new Out(name, null, sameBits, dims);
        }
    }

    /** A {@link Grad}, to be written, added to, or frozen. */
    record Slope(String name, boolean sameBits, long... dims) implements Arg {
        Slope exact() {
            return new Slope(name, true, dims);
        }
    }

    record Scratch(String name, long... dims) implements Arg {}

    /** A {@link PackedWeight}, read or ({@code out}) written. */
    record Codes(String name, boolean out, int bits, int group, long rows, long cols, int[] words, float[] step, float[] zero, boolean minimum,
                 boolean narrow) implements Arg {
        long wordsPerRow() {
            return PackedWeight.wordsPerRow(cols, bits);
        }

        /** The same codes on a minimum of their own per group. */
        Codes withMinimum() {
            return new Codes(name, out, bits, group, rows, cols, words, step, Values.between("minimum", zero.length, -0.5, 0), true, narrow);
        }

        Codes holding(float[] otherStep, float[] otherZero) {
            return new Codes(name, out, bits, group, rows, cols, words, otherStep, otherZero, minimum, narrow);
        }

        /** Zero points in bytes. */
        Codes inBytes() {
            return new Codes(name, out, bits, group, rows, cols, words, step, zero, minimum, true);
        }
    }

    /** Anything that is not memory: a number, a grid, or null for an operand left out. */
    record Fixed(String name, Object value) implements Arg {}

    static In in(String name, long... dims) {
        return new In(name, false, Values.normal(name, Values.count(dims)), dims);
    }

    static Out out(String name, long... dims) {
        return new Out(name, DType.F32, false, dims);
    }

    static Slope slope(String name, long... dims) {
        return new Slope(name, false, dims);
    }

    static Scratch scratch(String name, long... dims) {
        return new Scratch(name, dims);
    }

    static Fixed fixed(String name, Object value) {
        return new Fixed(name, value);
    }

    static Ints ints(String name, IntFunction<Integer> at, long... dims) {
        int[] v = new int[Values.count(dims)];
        for (int i = 0; i < v.length; i++) v[i] = at.apply(i);
        return new Ints(name, v, dims);
    }

    static Kept kept(String name, long... dims) {
        return new Kept(name, false, Values.normal(name, Values.count(dims)), dims);
    }

    /** A packed weight of random codes, steps in [0.05, 0.15) and zero points inside the grid. */
    static Codes codes(String name, boolean out, int rows, int cols, int bits, int group) {
        int groups = rows * cols / group, perRow = (int) PackedWeight.wordsPerRow(cols, bits);
        var random = new SplittableRandom(17L * rows + cols);
        int[] words = new int[rows * perRow];
        for (int r = 0; r < rows; r++) {
            for (int bit = 0; bit < cols * bits; bit++) words[r * perRow + bit / 32] |= random.nextInt(2) << bit % 32;
        }
        float[] zero = Values.of(groups, i -> (double) random.nextInt(1 << bits));
        return new Codes(name, out, bits, group, rows, cols, words, Values.between("step", groups, 0.05, 0.15), zero, false, false);
    }
}
