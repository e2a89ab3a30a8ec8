package dev.qat.cli;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.tensor.Fail;
import dev.qat.train.RunStatus;
import dev.qat.watch.Row;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * What runs wrote to metrics.jsonl as one picture: loss over steps, and a panel for each number noted beside it, a line for every stage. A stage that
 * follows itself goes on in its line; then what was judged after each of them has panels, too.
 */
final class Plot {
    private static final int WIDTH = 760, HEIGHT = 240, LEFT = 64, TOP = 30, GAP = 44, KEY = 18;
    /** A line's points are the means of so many of its readings on either side, and its beginning does not stretch the panel. */
    private static final int SMOOTH = 100, BEGINNING = 20;
    /** Okabe and Ito's colours, which colour-blind readers can tell apart. */
    private static final List<String> COLOURS = List.of("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442");
    private static final Set<String> BESIDE = Set.of("stage", "block", "step", "seconds", "train/grad_norm", "train/lr");

    /** Of one stage: (step, value) of every reading. */
    private record Line(List<double[]> points) {
        Line() {
            this(new ArrayList<>());
        }

        /** Every point the mean of those around it. */
        Line smooth() {
            int reach = points.size() / SMOOTH;
            return new Line(IntStream.range(0, points.size()).mapToObj(i -> {
                List<double[]> around = points.subList(Math.max(0, i - reach), Math.min(points.size(), i + reach + 1));
                return new double[] {points.get(i)[0], around.stream().mapToDouble(p -> p[1]).average().orElseThrow()};
            }).toList());
        }
    }

    /** Where in which line a stage ended. */
    private record End(String line, int step) {}

    /** What is drawn in a panel, by the name of the line; and what was judged, which is few and has marks. */
    private final Map<String, Map<String, Line>> panels = new LinkedHashMap<>(), judged = new LinkedHashMap<>();
    private final List<String> names = new ArrayList<>();
    private final StringBuilder out = new StringBuilder();

    private Plot() {}

    /** @return an SVG picture of all runs that wrote metrics */
    static String of(List<RunStatus> runs) {
        Plot p = new Plot();
        for (RunStatus r : runs) {
            String prefix = runs.size() > 1 ? r.name() + ": " : "";
            p.judged(r.rows(), p.read(r.directory().resolve("metrics.jsonl"), prefix));
        }
        if (p.names.isEmpty()) throw Fail.usage("no step was written to any metrics.jsonl here: nothing to plot");
        p.judged.forEach((panel, lines) -> {
            if (lines.values().stream().anyMatch(l -> l.points.size() > 1)) p.panels.put(panel, lines);
        });
        return p.svg();
    }

    /** @return where each stage ended, in order, by its name */
    private Map<String, Deque<End>> read(Path metrics, String prefix) {
        Map<String, Deque<End>> ends = new LinkedHashMap<>();
        if (!Files.exists(metrics)) return ends;
        Map<String, Integer> steps = new LinkedHashMap<>(); // blocks of a stage one after the other
        String last = "", name = "";
        int block = -1, at = -1;
        try {
            ObjectMapper json = new ObjectMapper();
            for (String text : Files.readAllLines(metrics)) {
                JsonNode line = json.readTree(text);
                String stage = line.path("stage").asText();
                int here = line.path("block").asInt(-1), step = line.path("step").asInt();
                boolean other = !stage.equals(last), again = here < block || here == block && step <= at;
                if (!last.isEmpty() && (other || again)) ends.computeIfAbsent(last, _ -> new ArrayDeque<>()).add(new End(name, steps.get(name)));
                if (other) name = unused(prefix + stage, steps.keySet());
                last = stage;
                block = here;
                at = step;
                add(line, name, steps.merge(name, 1, Integer::sum));
            }
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read: %s", metrics, e.getMessage());
        }
        if (!last.isEmpty()) ends.computeIfAbsent(last, _ -> new ArrayDeque<>()).add(new End(name, steps.get(name)));
        return ends;
    }

    private void add(JsonNode line, String name, int step) {
        if (!names.contains(name)) names.add(name);
        line.properties().forEach(e -> {
            if (!BESIDE.contains(e.getKey())) point(panels, e.getKey(), name, step, e.getValue().asDouble());
        });
    }

    private static void point(Map<String, Map<String, Line>> panels, String panel, String line, int step, double value) {
        panels.computeIfAbsent(panel, _ -> new LinkedHashMap<>()).computeIfAbsent(line, _ -> new Line()).points.add(new double[] {step, value});
    }

    /** Held-out perplexity, and of ternary weights the share of the dead that stayed so, at the step after which they were found. */
    private void judged(List<Row> rows, Map<String, Deque<End>> ends) {
        for (Row row : rows) {
            End end = ends.getOrDefault(row.name(), new ArrayDeque<>()).poll();
            if (end == null) continue; // a stage without steps
            point(judged, "held-out perplexity", end.line, end.step, row.perplexity());
            Double stayed = row.notes().get("dead_stayed");
            if (stayed != null) point(judged, "of the dead at a stage's beginning, the share that is dead at its end", end.line, end.step, stayed);
        }
    }

    /** A stage that a recipe names twice, with others between, is told from itself. */
    private static String unused(String name, Set<String> used) {
        return IntStream.iterate(1, n -> n + 1).mapToObj(n -> n == 1 ? name : name + " #" + n).filter(n -> !used.contains(n)).findFirst().orElseThrow();
    }

    private String svg() {
        int keys = (names.size() + 2) / 3 * KEY, height = panels.size() * (TOP + HEIGHT + GAP) + keys;
        add("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">%n", LEFT + WIDTH + 20, height);
        add("<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>%n");
        double[] xs = range(panels.values().stream().flatMap(m -> m.values().stream()).toList(), 0);
        int y = TOP;
        for (Map.Entry<String, Map<String, Line>> e : panels.entrySet()) {
            panel(y, e.getKey(), e.getValue(), xs);
            y += TOP + HEIGHT + GAP;
        }
        boolean oneEach = names.stream().map(n -> n.split(": ")[0]).distinct().count() == names.size(); // then a run's name says enough
        for (int i = 0; i < names.size(); i++) {
            int x = LEFT + i % 3 * (WIDTH / 3), at = y - TOP - 4 + i / 3 * KEY;
            add("<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" %s/>", x, at, x + 24, at, stroke(i, 2.5));
            add("<text x=\"%d\" y=\"%d\">%s</text>%n", x + 30, at + 4, escaped(oneEach ? names.get(i).split(": ")[0] : names.get(i)));
        }
        return out.append("</svg>\n").toString();
    }

    private void panel(int top, String title, Map<String, Line> read, double[] xs) {
        boolean marks = judged.containsKey(title);
        Map<String, Line> lines = new LinkedHashMap<>();
        read.forEach((name, line) -> lines.put(name, marks ? line : line.smooth()));
        double[] ys = range(lines.values(), 1);
        add("<text x=\"%d\" y=\"%d\" font-weight=\"bold\">%s</text>%n", LEFT, top - 10, escaped(title));
        for (double v : ticks(ys)) {
            double y = place(v, ys, top + HEIGHT, top);
            add("<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#dddddd\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>%n", LEFT, y, LEFT + WIDTH, y, LEFT - 6, y + 4, label(v));
        }
        for (double v : ticks(xs)) add("<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>%n", place(v, xs, LEFT, LEFT + WIDTH), top + HEIGHT + 16, label(v));
        add("<text x=\"%d\" y=\"%d\" text-anchor=\"end\">step</text>%n", LEFT + WIDTH, top + HEIGHT + 30);
        add("<clipPath id=\"at%d\"><rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/></clipPath>%n", top, LEFT, top, WIDTH, HEIGHT);
        lines.forEach((name, line) -> {
            StringBuilder points = new StringBuilder();
            int i = names.indexOf(name);
            for (double[] p : line.points) {
                if (!Double.isFinite(p[1])) continue;
                double x = place(p[0], xs, LEFT, LEFT + WIDTH), y = place(p[1], ys, top + HEIGHT, top);
                points.append(String.format(Locale.ROOT, "%.1f,%.1f ", x, y));
                if (marks) add("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>", x, y, COLOURS.get(i % COLOURS.size()));
            }
            add("<polyline fill=\"none\" %s clip-path=\"url(#at%d)\" points=\"%s\"/>%n", stroke(i, 1.5), top, points.toString().strip());
        });
        add("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888888\"/>%n", LEFT, top, WIDTH, HEIGHT);
    }

    private static double[] range(Collection<Line> lines, int axis) {
        double[] r = {Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY};
        for (Line l : lines) {
            for (double[] p : axis == 0 ? l.points : l.points.subList(l.points.size() / BEGINNING, l.points.size())) {
                if (!Double.isFinite(p[axis])) continue;
                r[0] = Math.min(r[0], p[axis]);
                r[1] = Math.max(r[1], p[axis]);
            }
        }
        double room = r[1] > r[0] ? axis * 0.05 * (r[1] - r[0]) : Math.max(1e-6, Math.abs(r[0]) * 0.1); // a single value has room on both sides
        return Double.isFinite(r[0]) ? new double[] {r[0] - room, r[1] + room} : new double[] {0, 1};
    }

    /** Multiples of 1, 2 or 5 times a power of ten, three to seven of them. */
    private static List<Double> ticks(double[] range) {
        double rough = (range[1] - range[0]) / 7, power = Math.pow(10, Math.floor(Math.log10(rough))), step = power * (rough > 5 * power ? 10 : rough > 2 * power ? 5 : rough > power ? 2 : 1);
        List<Double> all = new ArrayList<>();
        for (long n = (long) Math.ceil(range[0] / step); n * step <= range[1]; n++) all.add(n * step);
        return all;
    }

    private static double place(double v, double[] range, double from, double to) {
        return from + (v - range[0]) / (range[1] - range[0]) * (to - from);
    }

    private static String label(double v) {
        return new java.math.BigDecimal(v).round(new java.math.MathContext(4)).stripTrailingZeros().toPlainString();
    }

    /** Every second line is dashed, so that one on top of another hides neither. */
    private static String stroke(int i, double width) {
        return String.format(Locale.ROOT, "stroke=\"%s\" stroke-width=\"%.1f\"%s", COLOURS.get(i % COLOURS.size()), width, i % 2 == 1 ? " stroke-dasharray=\"6 4\"" : "");
    }

    private static String escaped(String s) {
        return s.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;");
    }

    private void add(String format, Object... values) {
        out.append(String.format(Locale.ROOT, format, values));
    }
}
