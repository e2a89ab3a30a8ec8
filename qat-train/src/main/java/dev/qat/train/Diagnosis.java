package dev.qat.train;

import dev.qat.ops.Backend;
import dev.qat.ops.Grad;
import dev.qat.tensor.DType;
import dev.qat.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Where a step broke: repeats it op by op on the values it found (an optimizer that gets a broken norm leaves them alone) and
 * names the first result that is not finite.
 */
final class Diagnosis implements InvocationHandler {
    /** @param layer the last parameter of a layer that was read before, such as model.layers.3.mlp.up_proj.weight; empty for none */
    record Finding(String op, String tensor, String layer, String value) {
        @Override
        public String toString() {
            return "%s is the first result that holds %s, made by %s%s".formatted(tensor, value, op, layer.isEmpty() ? "" : " at " + layer);
        }
    }

    /** Ends the repetition. */
    private static final class Found extends RuntimeException {
        private static final long serialVersionUID = 1;

        Found() {
            super(null, null, false, false);
        }
    }

    private static final Pattern LAYER = Pattern.compile("model\\.layers\\.\\d+\\.\\S*[^.\\s]");
    private static final long CHUNK = 1 << 20; // floats looked at a time

    private final Backend behind;
    private String layer = "";
    private Finding finding;

    private Diagnosis(Backend behind) {
        this.behind = behind;
    }

    /** Empty where every result is finite: then only sums of them overflow. */
    static Optional<Finding> of(Backend backend, Step step) {
        Diagnosis d = new Diagnosis(backend);
        try {
            step.repeat((Backend) Proxy.newProxyInstance(Backend.class.getClassLoader(), new Class<?>[] {Backend.class}, d));
        } catch (Found stop) {
            // the finding is kept
        }
        return Optional.ofNullable(d.finding);
    }

    @Override
    public Object invoke(Object proxy, Method op, Object[] args) throws Throwable {
        Object result;
        try {
            result = op.getName().equals("repeated") ? InvocationHandler.invokeDefault(proxy, op, args) : op.invoke(behind, args);
        } catch (InvocationTargetException e) {
            throw e.getCause();
        }
        if (op.getReturnType() != void.class || args == null) return result;
        for (Object a : args) {
            Tensor t = a instanceof Grad g && g.wanted() ? g.to() : a instanceof Tensor x ? x : null;
            Matcher name = LAYER.matcher(t == null || t.name == null ? "" : t.name);
            if (name.find()) layer = name.group();
        }
        for (int i = 0; i < args.length; i++) {
            // outputs come first, or are gradients
            if (args[i] instanceof Tensor t && i == 0) look(op.getName(), t);
            else if (args[i] instanceof Grad g && g.wanted()) look(op.getName(), g.to());
        }
        return result;
    }

    private void look(String op, Tensor t) {
        if (t.type != DType.F32) return;
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment all = arena.allocate(Math.min(CHUNK, Math.max(1, t.size())) * 4, 64);
            for (long at = 0; at < t.size(); at += CHUNK) {
                long n = Math.min(CHUNK, t.size() - at);
                MemorySegment part = all.asSlice(0, 4 * n);
                behind.memory().read(part, t.view(at, n));
                for (long i = 0; i < n; i++) {
                    float v = part.getAtIndex(ValueLayout.JAVA_FLOAT, i);
                    if (Float.isFinite(v)) continue;
                    finding = new Finding(op, t.toString(), layer, Float.toString(v));
                    throw new Found();
                }
            }
        }
    }
}
