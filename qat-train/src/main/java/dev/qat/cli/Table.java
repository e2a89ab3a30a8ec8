package dev.qat.cli;

import dev.qat.tensor.Fail;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * A closing table: text to the left, numbers to the right, no wider than the terminal.
 *
 * <pre>{@code
 * Table table = new Table(Table.text("model"), Table.number("perplexity"));
 * table.row("before", "5.4721").row("after", "5.5310").print(System.out);
 * }</pre>
 */
public final class Table {
    /** A column's title and the side its cells stand on. */
    public record Column(String title, Side side) {}

    /** The side of a column its cells stand on. */
    public enum Side { LEFT, RIGHT }

    /** Drawn with box lines for a terminal, or with spaces and dashes for logs and mail. */
    enum Look { BOX, PLAIN }

    private static final int NARROWEST = 6;                  // columns are not cut below this

    private final List<Column> columns;
    private final List<List<String>> rows = new ArrayList<>();

    public Table(Column... columns) {
        this.columns = List.of(columns);
    }

    public static Column text(String title) {
        return new Column(title, Side.LEFT);
    }

    public static Column number(String title) {
        return new Column(title, Side.RIGHT);
    }

    /** Adds a row; cells print as their {@code toString}, so numbers come ready made from {@link Format}. */
    public Table row(Object... cells) {
        Fail.unless(cells.length == columns.size(), "a row of %d cells for a table of %d columns: %s",
                cells.length, columns.size(), Arrays.toString(cells));
        rows.add(Arrays.stream(cells).map(String::valueOf).toList());
        return this;
    }

    /** Prints the table as fits standard output. */
    public void print(PrintStream out) {
        out.print(render());
        out.flush();
    }

    /** The table's lines as fit standard output; in a file or a pipe nothing is cut. */
    String render() {
        return render(Terminal.OUT.draws() ? Look.BOX : Look.PLAIN, Terminal.OUT.live() ? Terminal.OUT.width() : Integer.MAX_VALUE);
    }

    /** The table's lines, none longer than {@code width} as long as its columns can be cut. */
    String render(Look look, int width) {
        int[] widths = fit(look == Look.BOX ? width - 3 * columns.size() - 1 : width - 2 * (columns.size() - 1));
        List<String> titles = columns.stream().map(Column::title).toList();
        List<String> lines = new ArrayList<>();
        if (look == Look.BOX) lines.add(rule(widths, "┌─", "─┬─", "─┐", "─"));
        lines.add(line(titles, widths, look));
        lines.add(look == Look.BOX ? rule(widths, "├─", "─┼─", "─┤", "─") : rule(widths, "", "  ", "", "-"));
        for (List<String> row : rows) lines.add(line(row, widths, look));
        if (look == Look.BOX) lines.add(rule(widths, "└─", "─┴─", "─┘", "─"));
        return lines.stream().map(l -> l.stripTrailing() + "\n").collect(Collectors.joining());
    }

    /** Each column's width: its longest cell, then the widest text column is cut until all fit into {@code room}. */
    private int[] fit(int room) {
        int[] widths = IntStream.range(0, columns.size()).map(this::longest).toArray();
        while (Arrays.stream(widths).sum() > room) {
            int widest = IntStream.range(0, widths.length).filter(i -> columns.get(i).side() == Side.LEFT)
                    .reduce((a, b) -> widths[b] > widths[a] ? b : a).orElse(-1);
            if (widest < 0 || widths[widest] <= NARROWEST) break;     // a cut number would lie: rather overflow
            widths[widest]--;
        }
        return widths;
    }

    private int longest(int column) {
        int title = length(columns.get(column).title());
        return rows.stream().mapToInt(row -> length(row.get(column))).reduce(title, Math::max);
    }

    private String line(List<String> cells, int[] widths, Look look) {
        String between = look == Look.BOX ? " │ " : "  ";
        String line = IntStream.range(0, widths.length)
                .mapToObj(i -> pad(cells.get(i), widths[i], columns.get(i).side(), look))
                .collect(Collectors.joining(between));
        return look == Look.BOX ? "│ " + line + " │" : line;
    }

    private static String pad(String cell, int width, Side side, Look look) {
        String dots = look == Look.BOX ? "…" : "...";
        String text = length(cell) <= width ? cell
                : cell.substring(0, cell.offsetByCodePoints(0, width - dots.length())) + dots;
        String space = " ".repeat(width - length(text));
        return side == Side.LEFT ? text + space : space + text;
    }

    private static String rule(int[] widths, String left, String between, String right, String dash) {
        return Arrays.stream(widths).mapToObj(dash::repeat).collect(Collectors.joining(between, left, right));
    }

    private static int length(String text) {
        return text.codePointCount(0, text.length());
    }
}
