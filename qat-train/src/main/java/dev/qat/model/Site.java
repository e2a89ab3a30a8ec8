package dev.qat.model;

import dev.qat.ops.Grid;
import dev.qat.ops.Ops;
import dev.qat.ops.RowGrid;
import dev.qat.ops.Tape;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;

/**
 * A named point through which a value passes: a weight, an activation, a key, a value. Methods put functions into it (a
 * transform, a quantizer); empty, it costs nothing.
 */
public final class Site {
    /** A function on a value; on a weight site the argument is the fp32 master, which a quantizer of frozen codes ignores. */
    @FunctionalInterface
    public interface Function {
        Tensor apply(Tape t, Tensor x);
    }

    /**
     * Min-max quantization of every row, or of each of its equal parts, such as heads, once for all the sites that see one value; a decoder can keep
     * its whole numbers in the values' place.
     */
    public static final class Rows implements Function {
        private final RowGrid grid;
        private final int parts;
        private Tensor last, quantized;

        public Rows(RowGrid grid, int parts) {
            this.grid = grid;
            this.parts = parts;
        }

        public RowGrid grid() {
            return grid;
        }

        public int parts() {
            return parts;
        }

        /** Whether both round alike; either may be null. */
        static boolean alike(Rows a, Rows b) {
            return a == null ? b == null : b != null && a.grid.equals(b.grid) && a.parts == b.parts;
        }

        @Override
        public Tensor apply(Tape t, Tensor x) {
            if (x != last) quantized = Ops.rowQuant(t, x, grid, x.cols() / parts);
            last = x;
            return quantized;
        }
    }

    /** Static quantization: one step for a whole tensor, whatever its rows, once for all the sites that see one value ({@link Ops#lsq}). */
    public static final class Whole implements Function {
        public final int bits;
        public final Param step; // (1)
        private Tensor last, quantized;

        public Whole(int bits, Param step) {
            this.bits = bits;
            this.step = step;
        }

        @Override
        public Tensor apply(Tape t, Tensor x) {
            if (x != last) quantized = Ops.lsq(t, x, step.value(), new Grid(bits, Math.toIntExact(x.size())));
            last = x;
            return quantized;
        }
    }

    private final List<Function> functions = new ArrayList<>();
    private int brief;
    /** How many of the first functions belong to the model itself. */
    private int standing;

    /** Adds a function after those already there. */
    public void add(Function f) {
        functions.add(f);
    }

    /** The same for a function that is cheap to run: what it makes is not kept for the backward pass, but made again. */
    public void addBrief(Function f) {
        functions.add(f);
        brief++;
    }

    /** Adds a function that is part of the model: it comes before what methods put there, and stays when that is cleared. */
    void stand(Function f) {
        functions.add(standing++, f);
    }

    /** Whether a function of the model itself is here. */
    public boolean standing() {
        return standing > 0;
    }

    /** Takes out what methods put there. */
    public void clear() {
        functions.subList(standing, functions.size()).clear();
        brief = 0;
    }

    /** Takes everything out. */
    void empty() {
        standing = 0;
        clear();
    }

    /** Whether what comes out need not be kept. */
    boolean isBrief() {
        return brief > 0 && brief == functions.size();
    }

    public boolean isEmpty() {
        return functions.isEmpty();
    }

    /** The last function where it rounds rows; null where it does something else, or there is none. */
    public Rows rows() {
        return !functions.isEmpty() && functions.getLast() instanceof Rows r ? r : null;
    }

    /** The last function where it is a static quantizer, else null. */
    Whole whole() {
        return !functions.isEmpty() && functions.getLast() instanceof Whole w ? w : null;
    }

    /** x after every function but the last. */
    Tensor beforeLast(Tape t, Tensor x) {
        for (Function f : functions.subList(0, functions.size() - 1)) x = f.apply(t, x);
        return x;
    }

    /** x after every function, in order. */
    public Tensor through(Tape t, Tensor x) {
        for (Function f : functions) x = f.apply(t, x);
        return x;
    }
}
