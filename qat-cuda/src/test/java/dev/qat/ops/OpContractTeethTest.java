package dev.qat.ops;

import static dev.qat.tensor.HostMemory.get;
import static dev.qat.tensor.HostMemory.put;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import dev.qat.cpu.ReferenceBackend;
import dev.qat.tensor.Tensor;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/** The contract bites: a backend that is right but for one slip in one op is caught, and told which. */
class OpContractTeethTest {
    /** What a slipping backend does in place of an op: {@code op} runs the right one on any arguments. */
    private interface Slip {
        void call(Op op, Object[] args);
    }

    private interface Op {
        void run(Object... args);
    }

    /** A slip, the op it happens in, and a piece of what the contract says about it. */
    private record Fault(String what, String op, String complaint, Slip slip) {}

    private static final List<Fault> FAULTS = List.of(
            new Fault("writes where it should add", "accumulate", "adding", (op, a) -> op.run(new Grad(((Grad) a[0]).to(), false), a[1], a[2])),
            new Fault("adds where it should write", "swigluBack", "dup[0] = NaN", (op, a) -> op.run(a[0], added(a[1]), a[2], a[3], a[4])),
            new Fault("writes past its end", "swiglu", "y was written outside of itself", (op, a) -> {
                op.run(a);
                put((Tensor) a[0], ((Tensor) a[0]).size(), 0);
            }),
            new Fault("writes before its beginning", "swiglu", "y was written outside of itself", (op, a) -> {
                op.run(a);
                put((Tensor) a[0], -1, 0);
            }),
            new Fault("leaves out what is less than a vector", "add", "y[0] = NaN", (op, a) -> op.run(whole(a[0]), whole(a[1]), whole(a[2]))),
            new Fault("changes an input", "rmsnorm", "x, which is only read, or its surroundings were changed", (op, a) -> {
                op.run(a);
                put((Tensor) a[2], 0, 7);
            }),
            new Fault("rounds ties up", "lsq", "on ties and ends", (op, a) -> tiesUp((Tensor) a[0], (Tensor) a[1], (Tensor) a[2], (Grid) a[3])),
            new Fault("masks the clip's own end", "lsqBack", "dw[0] = 0.0", (op, a) -> {
                op.run(a);
                maskEnds(((Grad) a[0]).to(), (Tensor) a[3], (Tensor) a[4], (Grid) a[5]);
            }),
            new Fault("swallows NaN", "swiglu", "with NaN in gate", (op, a) -> {
                op.run(a);
                Tensor y = (Tensor) a[0];
                for (long i = 0; i < y.size(); i++) if (Float.isNaN(get(y, i))) put(y, i, 0);
            }),
            new Fault("sums in another order each time", "sum", "differs from one run to the next", new Slip() {
                private final AtomicInteger calls = new AtomicInteger();

                @Override
                public void call(Op op, Object[] a) {
                    op.run(a);
                    Tensor y = (Tensor) a[0];
                    if (calls.incrementAndGet() % 2 == 0) put(y, 0, Math.nextUp(get(y, 0)));
                }
            }),
            new Fault("gives another dx when dbias is frozen", "linearBack", "dx changed when [dbias] was frozen", (op, a) -> {
                op.run(a);
                Tensor dx = ((Grad) a[0]).to();
                if (dx != null && !((Grad) a[2]).wanted()) put(dx, 0, Math.nextUp(get(dx, 0)));
            }),
            new Fault("reads dy after writing dx", "rowQuantBack", "are one memory", (op, a) -> {
                Tensor dx = ((Grad) a[0]).to();
                for (long i = 0; dx != null && !((Grad) a[0]).add() && i < dx.size(); i++) put(dx, i, 0);
                op.run(a);
            }),
            new Fault("reads aligned memory only", "scale", "in shifted memory", (op, a) -> {
                op.run(a);
                if (((Tensor) a[1]).address % 16 != 0) put((Tensor) a[0], 0, 0.125f);
            }),
            new Fault("is off by a little", "linear", "expected", (op, a) -> {
                op.run(a);
                put((Tensor) a[0], 0, get((Tensor) a[0], 0) * 1.0001f);
            }),
            new Fault("forgets a gradient", "embedBack", "expected", (op, a) -> {}),
            new Fault("throws", "cacheWrite", "threw java.lang.UnsupportedOperationException", (op, a) -> {
                throw new UnsupportedOperationException("cacheWrite");
            }));

    private static Grad added(Object grad) {
        return new Grad(((Grad) grad).to(), true);
    }

    private static Tensor whole(Object tensor) {
        Tensor t = (Tensor) tensor;
        return t.view(0, t.size() / 16 * 16);
    }

    private static void tiesUp(Tensor y, Tensor w, Tensor step, Grid grid) {
        for (long i = 0; i < w.size(); i++) {
            float s = get(step, i / grid.group()), v = Math.max(grid.lowest(), Math.min(grid.highest(), get(w, i) / s));
            put(y, i, s * (float) Math.floor(v + 0.5f));
        }
    }

    private static void maskEnds(Tensor dw, Tensor w, Tensor step, Grid grid) {
        for (long i = 0; dw != null && i < w.size(); i++) {
            float v = get(w, i) / get(step, i / grid.group());
            if (v == grid.lowest() || v == grid.highest()) put(dw, i, 0);
        }
    }

    @TestFactory
    Stream<DynamicTest> aBackendIsCaughtThat() {
        return FAULTS.stream().map(f -> dynamicTest(f.what + " in " + f.op, () -> {
            String said = complaint(f, new ReferenceBackend());
            assertTrue(said.contains(f.complaint), "said: " + said);
            assertTrue(said.contains(f.op), "said: " + said);
        }));
    }

    @Test
    void anOpIsCaughtWhoseGradientIsZeroEvenInTheReference() {
        Fault dead = new Fault("has no gradient", "dequantizeBack", "dstep is zero everywhere", (op, a) -> {
            Grad dstep = (Grad) a[0];
            op.run(dstep.add() ? Grad.NONE : dstep, a[1], a[2]);
            for (long i = 0; dstep.wanted() && !dstep.add() && i < dstep.to().size(); i++) put(dstep.to(), i, get(dstep.to(), i) * 0);
        });
        String said = complaint(dead, slipping(dead));
        assertTrue(said.contains(dead.complaint), "said: " + said);
    }

    private static String complaint(Fault fault, Backend reference) {
        Row row = OpTable.rows().stream().filter(r -> r.op.equals(fault.op)).findFirst().orElseThrow();
        try (Backend backend = slipping(fault)) {
            var contract = new OpContract(Candidate.fp32("a slipping backend", () -> backend), backend, reference);
            return assertThrows(AssertionError.class, () -> contract.check(row), fault.what + " in " + fault.op).getMessage();
        }
    }

    private static Backend slipping(Fault fault) {
        Backend right = new ReferenceBackend();
        return (Backend) Proxy.newProxyInstance(Backend.class.getClassLoader(), new Class<?>[] {Backend.class}, (proxy, method, args) -> {
            try {
                if (!method.getName().equals(fault.op)) return method.invoke(right, args);
                fault.slip.call(changed -> {
                    try {
                        method.invoke(right, changed);
                    } catch (ReflectiveOperationException e) {
                        throw new IllegalStateException(e);
                    }
                }, args);
                return null;
            } catch (InvocationTargetException e) {
                throw e.getCause();
            }
        });
    }
}
