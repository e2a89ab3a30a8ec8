package dev.qat.ops;

import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.Map;
import java.util.TreeMap;

/**
 * Stands in front of a backend, or of none, and keeps the operations and bytes of every op called.
 *
 * <p>Without a backend behind it ({@link #shape}) nothing is computed: running one step then gives the plan of that step, the
 * exact memory, operations and bytes, without touching a device. With one it gives seconds per op as well.
 */
public final class Meter implements InvocationHandler {
    /** What one op cost: calls, floating point operations of its products, bytes read and written, seconds. */
    public record Cost(long calls, double flop, double bytes, double seconds) {
        Cost plus(double f, double b, double s) {
            return new Cost(calls + 1, flop + f, bytes + b, seconds + s);
        }
    }

    private final Backend behind;
    private final DType operand;
    private final Memory memory;
    private final Map<String, Cost> costs = new TreeMap<>();

    private Meter(Backend behind, DType operand, Memory memory) {
        this.behind = behind;
        this.operand = operand;
        this.memory = memory;
    }

    /** A meter with nothing behind it, for a device whose products read {@code operand}. */
    public static Meter shape(DType operand, Memory memory) {
        return new Meter(null, operand, memory);
    }

    public static Meter over(Backend behind) {
        return new Meter(behind, behind.operand(), behind.memory());
    }

    /** The backend to give to a tape. */
    public Backend backend() {
        return (Backend) Proxy.newProxyInstance(Backend.class.getClassLoader(), new Class<?>[] {Backend.class}, this);
    }

    public Map<String, Cost> costs() {
        return costs;
    }

    public void reset() {
        costs.clear();
    }

    public double flop() {
        return costs.values().stream().mapToDouble(Cost::flop).sum();
    }

    public double bytes() {
        return costs.values().stream().mapToDouble(Cost::bytes).sum();
    }

    @Override
    public Object invoke(Object proxy, Method op, Object[] args) throws Throwable {
        switch (op.getName()) {
            case "name": return behind == null ? "shape" : behind.name();
            case "memory": return memory;
            case "operand": return operand;
            case "repeated": return InvocationHandler.invokeDefault(proxy, op, args);
            case "sync", "close": return behind == null ? null : call(op, args);
            case "toString", "hashCode", "equals": return op.invoke(this, args);
            default:
        }
        long start = System.nanoTime();
        if (behind != null) {
            call(op, args);
            behind.sync(); // a device answers before it is done
        }
        double seconds = behind == null ? 0 : (System.nanoTime() - start) * 1e-9;
        Cost before = costs.getOrDefault(op.getName(), new Cost(0, 0, 0, 0));
        costs.put(op.getName(), before.plus(flop(op.getName(), args), bytes(op.getName(), args), seconds));
        return null;
    }

    private Object call(Method op, Object[] args) throws Throwable {
        try {
            return op.invoke(behind, args);
        } catch (InvocationTargetException e) {
            throw e.getCause();
        }
    }

    /** Operations of an op's products; what is element-wise is bound by bytes and counts none. */
    static double flop(String op, Object[] a) {
        return switch (op) {
            case "linear" -> 2.0 * ((Tensor) a[0]).size() * ((Tensor) a[1]).cols();
            case "linearBack" -> 2.0 * ((Tensor) a[3]).size() * ((Tensor) a[5]).cols() * (wanted(a[0]) + wanted(a[1]));
            case "mixHeads" -> 2.0 * ((Tensor) a[1]).size() * ((Tensor) a[2]).cols();
            case "mixHeadsBack" -> 2.0 * ((Tensor) a[3]).size() * ((Tensor) a[4]).cols() * (wanted(a[0]) + wanted(a[1]));
            // two products forward and five backward, each half of T×T since the rest is masked
            case "attention" -> 2 * product((Heads) a[5]);
            case "attentionBack" -> 5 * product((Heads) a[10]);
            case "attentionCache" -> 4.0 * ((Heads) a[5]).B() * ((Heads) a[5]).H() * ((Heads) a[5]).T() * ((Heads) a[5]).D();
            case "crossEntropy" -> head((Tensor) a[4], (Tensor) a[5]) * (1 + wanted(a[1]) + wanted(a[2]));
            case "distill" -> head((Tensor) a[5], (Tensor) a[6]) * (1 + wanted(a[1]) + wanted(a[2])) + head((Tensor) a[7], (Tensor) a[8]);
            case "compare" -> head((Tensor) a[3], (Tensor) a[4]) + head((Tensor) a[5], (Tensor) a[6]);
            default -> 0;
        };
    }

    private static double product(Heads h) {
        return 1.0 * h.B() * h.H() * h.T() * h.T() * h.D();
    }

    private static double head(Tensor x, Tensor w) {
        return 2.0 * x.size() * w.rows();
    }

    private static double wanted(Object grad) {
        return ((Grad) grad).wanted() ? 1 : 0;
    }

    /** Every tensor an op names is read or written once; a gradient that is added to and what an optimizer updates, twice. */
    static double bytes(String op, Object[] args) {
        double sum = op.equals("adamw") ? ((Tensor) args[0]).bytes() + ((Tensor) args[2]).bytes() + ((Tensor) args[3]).bytes() : 0;
        for (Object a : args) {
            sum += switch (a) {
                case Tensor t -> t.bytes();
                case Grad g -> g.wanted() ? g.to().bytes() * (g.add() ? 2.0 : 1.0) : 0;
                case PackedWeight p -> p.words().bytes() + p.zero().bytes();
                case null, default -> 0;
            };
        }
        return sum;
    }
}
