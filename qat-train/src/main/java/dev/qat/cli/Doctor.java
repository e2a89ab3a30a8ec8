package dev.qat.cli;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.tensor.Fail;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.stream.Stream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Help.Ansi;
import picocli.CommandLine.Option;

/** {@code qat doctor}: what this machine offers, and what is missing; it only tells, so it ends well on any usable JDK. */
@Command(name = "doctor", mixinStandardHelpOptions = true, versionProvider = Main.Version.class,
        description = "Tell what this machine offers and what is missing.")
final class Doctor implements Callable<Integer> {
    @Option(names = "--json", description = "Print the report as JSON.")
    private boolean json;

    @Override
    public Integer call() {
        List<Finding> findings = Stream.concat(new Machine(Path.of("/")).findings().stream(),
                Natives.findings().stream()).toList();
        System.out.print(json ? json(findings) : text(findings));
        System.out.flush();
        return Machine.suits() ? 0 : Fail.DEVICE;
    }

    /** One line for each finding: its state, its name, its sentence. */
    static String text(List<Finding> findings) {
        StringBuilder text = new StringBuilder("qat " + Main.version() + "\n");
        for (Finding f : findings) {
            text.append(mark(f.state())).append("%-12s %s%n".formatted(f.name(), f.text()));
        }
        return text.toString();
    }

    static String json(List<Finding> findings) {
        ObjectMapper json = new ObjectMapper();
        ObjectNode root = json.createObjectNode().put("qat", Main.version()).put("suits", Machine.suits());
        var checks = root.putArray("checks");
        for (Finding f : findings) {
            checks.addObject().put("name", f.name()).put("state", f.state().name().toLowerCase(Locale.ROOT))
                    .put("text", f.text());
        }
        return root.toPrettyString() + "\n";
    }

    /** The state's word, green, yellow or red where standard output is a terminal. */
    private static String mark(Finding.State state) {
        String style = switch (state) {
            case OK -> "green";
            case WARNING -> "yellow";
            case MISSING -> "red";
        };
        String word = state.name().toLowerCase(Locale.ROOT);
        return Ansi.AUTO.string("@|" + style + " " + word + "|@") + " ".repeat(9 - word.length());
    }
}
