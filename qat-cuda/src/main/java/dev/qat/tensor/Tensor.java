package dev.qat.tensor;

import java.util.Arrays;

/**
 * A contiguous, row-major window on a device's memory: an address, a shape, a type, and where its gradient goes.
 *
 * <p>Deliberately absent: strides, broadcasting, type promotion. The address is only meaningful to the backend that owns
 * the memory. The gradient fields belong to {@link dev.qat.ops.Tape}.
 */
public final class Tensor {
    public final String name;
    public final DType type;
    public final long address;
    private final long[] dims;
    private final long size;

    /** Whether a gradient is wanted: true for what trains and for everything computed from it. */
    public boolean wants;
    /** Where dL/dthis is kept; null until the first op of a backward pass asks for it. */
    public Tensor grad;
    /** The tape step in which {@link #grad} was last written; tells "write" from "add". */
    public long gradStep = -1;
    /** The tape step in which {@link #grad} holds what earlier steps gave and is added to from the start. */
    public long carriedStep = -1;
    /** Whether the backward of the op that made this reads it again. */
    public boolean reread;
    /** Whether products alone read dL/dthis, and how many recorded ops read this. */
    public boolean narrowGrad;
    public int uses;
    /** A tensor whose gradient memory this one's gradient may use until an element-wise backward turns it over; null for none. */
    public Tensor gradHost;
    /** The tape step in which {@link #grad}'s memory was lent to the tensor that names this one as its host. */
    public long lentStep = -1;

    public Tensor(String name, DType type, long address, long... dims) {
        long n = 1;
        for (long d : dims) {
            if (d < 0) throw Fail.internal("tensor %s has a negative dimension in %s", name, Arrays.toString(dims));
            n = Math.multiplyExact(n, d);
        }
        this.name = name;
        this.type = type;
        this.address = address;
        this.dims = dims.clone();
        this.size = n;
    }

    public long[] dims() {
        return dims.clone();
    }

    public long dim(int i) {
        return dims[i];
    }

    /** Number of elements. */
    public long size() {
        return size;
    }

    /** Length of the last dimension. */
    public long cols() {
        return dims[dims.length - 1];
    }

    /** Number of rows: the product of all dimensions but the last. */
    public long rows() {
        return size == 0 ? 0 : size / cols();
    }

    public long bytes() {
        return size * type.bytes;
    }

    /** The same memory with another shape of at most the same size, starting {@code offset} elements in; carries no gradient. */
    public Tensor view(long offset, long... shape) {
        Tensor v = new Tensor(name, type, address + offset * type.bytes, shape);
        if (offset < 0 || offset + v.size > size) throw Fail.internal("view %s of %s at %d leaves it", Arrays.toString(shape), this, offset);
        return v;
    }

    /** Rows {@code from} to {@code from + count} of a matrix. */
    public Tensor rows(long from, long count) {
        return view(from * cols(), count, cols());
    }

    @Override
    public String toString() {
        return "%s %s%s".formatted(name, type, Arrays.toString(dims));
    }
}
