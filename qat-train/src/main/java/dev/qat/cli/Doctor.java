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
    private static final int MARK = 9, NAME = 13;            // columns of the state and of the name

    @Option(names = "--json", description = "Print the report as JSON.")
    private boolean json;

    @Override
    public Integer call() {
        List<Finding> findings = Stream.concat(new Machine(Path.of("/")).findings().stream(),
                Natives.findings().stream()).toList();
        System.out.print(json ? json(findings) : text(findings, Terminal.OUT.live() ? Terminal.OUT.width() : Integer.MAX_VALUE));
        System.out.flush();
        return Machine.suits() ? 0 : Fail.DEVICE;
    }

    /** For each finding its state, its name, and its sentence, folded where a terminal's line ends. */
    static String text(List<Finding> findings, int width) {
        StringBuilder text = new StringBuilder("qat " + Main.version() + "\n");
        for (Finding f : findings) {
            text.append(mark(f.state())).append(("%-" + NAME + "s").formatted(f.name()));
            int column = MARK + NAME;
            for (String word : f.text().split(" ")) {
                boolean first = column == MARK + NAME;
                if (!first && column + 1 + word.length() > width) {
                    text.append('\n').append(" ".repeat(MARK + NAME));
                    column = MARK + NAME;
                    first = true;
                }
                text.append(first ? "" : " ").append(word);
                column += word.length() + (first ? 0 : 1);
            }
            text.append('\n');
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
        return Ansi.AUTO.string("@|" + style + " " + word + "|@") + " ".repeat(MARK - word.length());
    }
}
