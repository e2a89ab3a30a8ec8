package dev.qat.cli;

import dev.qat.tensor.Fail;
import dev.qat.train.Stop;
import java.io.PrintWriter;
import java.lang.management.ManagementFactory;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.UnmatchedArgumentException;

/**
 * The {@code qat} command: one verb, one recipe, and dotted {@code key=value} words that override it.
 *
 * <p>It ends with the exit code of the {@link Fail} it met, whose sentence goes to standard error once and without a stack
 * trace; {@code QAT_DEBUG=1} in the environment adds the trace.
 */
@Command(name = "qat", mixinStandardHelpOptions = true, versionProvider = Main.Version.class,
        synopsisHeading = "", customSynopsis = "qat VERB [recipe.yaml] [key=value ...]",
        header = {"Quantization-aware training of large language models on the JVM.", ""},
        optionListHeading = "%n", commandListHeading = "%nVerbs:%n",
        footer = {"", "A recipe is a YAML file; key=value words override it, as in train.epochs=3.",
                "'qat VERB --help' says more about a verb."})
public final class Main implements Callable<Integer> {
    /** Every verb: a {@code @Command} class that is {@code Callable<Integer>} or {@code Runnable}, with a plain constructor. */
    private static final List<Class<?>> VERBS = List.of(Train.class, Sweep.class, GenerateVerb.class, Export.class, Eval.class, Bench.class, PlanVerb.class, Status.class, Ls.class, Doctor.class);

    @Spec
    private CommandSpec spec;

    /** What signals ask of the verb at work. */
    private final Stop stop;

    private Main(Stop stop) {
        this.stop = stop;
    }

    public static void main(String... args) {
        Stop stop = new Stop();
        Signals.install(stop);
        System.exit(run(stop, VERBS, args));
    }

    /** Runs one command line and returns its exit code. */
    static int run(String... args) {
        return run(VERBS, args);
    }

    static int run(List<Class<?>> verbs, String... args) {
        return run(new Stop(), verbs, args);
    }

    private static int run(Stop stop, List<Class<?>> verbs, String... args) {
        // The tokenizer library else calls home, and looks for a download where it finds a GPU.
        System.setProperty("ai.djl.offline", "true");
        try {
            CommandLine line = new CommandLine(new Main(stop));
            verbs.forEach(line::addSubcommand);
            line.setUsageHelpWidth(100);
            line.setParameterExceptionHandler((e, _) -> misused(e));
            line.setExecutionExceptionHandler((e, _, _) -> failed(e));
            return line.execute(args);
        } catch (Throwable e) {                              // picocli hands over exceptions, but lets errors fly
            return failed(e);
        }
    }

    Stop stop() {
        return stop;
    }

    /** No verb was given. */
    @Override
    public Integer call() {
        throw new ParameterException(spec.commandLine(), "no verb given. Known: " + verbs(spec.commandLine()));
    }

    private static int misused(ParameterException e) {
        PrintWriter err = e.getCommandLine().getErr();
        String command = e.getCommandLine().getCommandSpec().qualifiedName();
        boolean verb = command.equals("qat") && e instanceof UnmatchedArgumentException u
                && !u.getUnmatched().isEmpty() && !u.getUnmatched().getFirst().startsWith("-");
        if (verb) {
            String word = ((UnmatchedArgumentException) e).getUnmatched().getFirst();
            String hint = Nearest.hint(word, e.getCommandLine().getSubcommands().keySet());
            err.printf("qat: no verb '%s'%s Known: %s%n", word, hint.isEmpty() ? "." : hint, verbs(e.getCommandLine()));
        } else {
            err.println("qat: " + e.getMessage());
        }
        err.println("Try '" + command + " --help'.");
        err.flush();
        return Fail.USAGE;
    }

    private static String verbs(CommandLine line) {
        return String.join(", ", line.getSubcommands().keySet());
    }

    /** Says what went wrong, for a user to act on, and returns the exit code. */
    private static int failed(Throwable e) {
        boolean debug = "1".equals(System.getenv("QAT_DEBUG"));
        for (Throwable cause = e; cause != null; cause = cause.getCause()) {
            if (cause instanceof Fail fail) {
                System.err.println("qat: " + fail.getMessage());
                if (debug) e.printStackTrace();
                return fail.code();
            }
            if (cause instanceof OutOfMemoryError) {
                long heap = ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getMax();
                System.err.printf("qat: out of memory (%s). The Java heap may grow to %s; QAT_JAVA_OPTS=-Xmx16g allows more,"
                        + " and a smaller batch needs less.%n", cause.getMessage(), Format.bytes(heap));
                if (debug) e.printStackTrace();
                return Fail.INTERNAL;
            }
        }
        System.err.println("qat: this is a bug in qat, please report it with the lines below.");
        System.err.println("qat " + version() + ", Java " + Runtime.version() + ", " + System.getProperty("os.name"));
        e.printStackTrace();
        return Fail.INTERNAL;
    }

    /** The version that the jar's manifest states. */
    static String version() {
        String version = Main.class.getPackage().getImplementationVersion();
        return version == null ? "(run from class files, without a version)" : version;
    }

    /** What {@code qat --version} prints. */
    static final class Version implements IVersionProvider {
        @Override
        public String[] getVersion() {
            return new String[] {"qat " + version(), "Java " + Runtime.version()};
        }
    }
}
