package dev.qat.cli;

import dev.qat.train.Stop;
import java.lang.reflect.Proxy;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.IntConsumer;

/**
 * What signals mean to the command. TERM, USR1 and INT ask a training run to keep a checkpoint and end with 75; a second INT quits
 * at once; without a run at work TERM and INT end the command as they always do, and USR1 is let pass.
 *
 * <p>Handlers are installed first thing in main: a USR1 that nobody handles kills the JVM.
 */
final class Signals {
    private static final int INT = 2, TERM = 15, SIGNALLED = 128;

    private final Stop stop;
    private final Consumer<String> told;
    private final IntConsumer quit;

    Signals(Stop stop, Consumer<String> told, IntConsumer quit) {
        this.stop = stop;
        this.told = told;
        this.quit = quit;
    }

    static void install(Stop stop) {
        Signals signals = new Signals(stop, System.err::println, Runtime.getRuntime()::halt);
        for (String name : List.of("TERM", "INT", "USR1")) {
            try {
                handle(name, () -> signals.came(name));
            } catch (ReflectiveOperationException e) {
                System.err.println("qat: SIG" + name + " cannot be handled here, so it ends a run without a checkpoint: " + e);
            }
        }
    }

    /** By reflection, as the compiler warns of sun.misc.Signal in a way that cannot be turned off; there is no other way to handle USR1. */
    private static void handle(String name, Runnable action) throws ReflectiveOperationException {
        Class<?> signal = Class.forName("sun.misc.Signal"), handler = Class.forName("sun.misc.SignalHandler");
        Object then = Proxy.newProxyInstance(handler.getClassLoader(), new Class<?>[] {handler}, (self, method, args) -> switch (method.getName()) {
            case "handle" -> {
                action.run();
                yield null;
            }
            case "hashCode" -> System.identityHashCode(self);
            case "equals" -> self == args[0];
            default -> "handler of SIG" + name;
        });
        signal.getMethod("handle", signal, handler).invoke(null, signal.getConstructor(String.class).newInstance(name), then);
    }

    /** What is done when a signal comes. */
    void came(String name) {
        boolean again = stop.asked();
        if (!stop.heeded()) {
            if (!name.equals("USR1")) quit.accept(SIGNALLED + (name.equals("INT") ? INT : TERM));
            return;
        }
        if (name.equals("INT") && again) {
            told.accept("qat: interrupted twice: quitting without a checkpoint");
            quit.accept(SIGNALLED + INT);
            return;
        }
        stop.ask("SIG" + name);
        if (!again) told.accept("qat: SIG" + name + ": writing a checkpoint, then ending" + (name.equals("INT") ? "; once more quits at once" : ""));
    }
}
