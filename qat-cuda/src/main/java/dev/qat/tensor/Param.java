package dev.qat.tensor;

/**
 * Something with a name that may train: its value, and what kind of thing it is (which decides its learning rate).
 *
 * <p>The value always has a shape. It has memory only while it is {@link #resident}: a block's weights come and go. A value that
 * trains is an fp32 master, {@code value.wants} is then true, and the driver gives {@code value.grad} its place in a slab; one
 * that only computes may lie in the type products read.
 */
public final class Param {
    /** What a parameter is to a model; recipes give learning rates per kind. */
    public enum Kind { WEIGHT, GAIN, BIAS, EMBEDDING, HEAD, SCALE, ZERO, TRANSFORM }

    private final String name;
    private final Kind kind;
    private Tensor value;

    public Param(String name, Kind kind, Tensor value) {
        this.name = name;
        this.kind = kind;
        this.value = value;
    }

    public String name() {
        return name;
    }

    public Kind kind() {
        return kind;
    }

    public Tensor value() {
        return value;
    }

    /** Whether the value has memory. */
    public boolean resident() {
        return value.address != 0;
    }

    /** Gives the value another place of the same shape. */
    public void place(Tensor at) {
        Fail.unless(java.util.Arrays.equals(at.dims(), value.dims()), "%s cannot lie in %s", value, at);
        value = at;
    }

    /** Leaves the shape alone; the memory is its owner's to give back. */
    public void leave() {
        value = new Tensor(name, value.type, 0, value.dims());
    }

    @Override
    public String toString() {
        return kind + " " + value;
    }
}
