package dev.qat.cli;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.tensor.Fail;
import dev.qat.train.RunStatus;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/** What runs wrote to metrics.jsonl as one picture: loss over steps, and a panel for each number noted beside it, a line for every stage. */
final class Plot {
    private static final int WIDTH = 760, HEIGHT = 240, LEFT = 64, TOP = 30, GAP = 44, KEY = 18;
    /** Okabe and Ito's colours, which colour-blind readers can tell apart. */
    private static final List<String> COLOURS = List.of("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442");
    private static final Set<String> BESIDE = Set.of("stage", "block", "step", "seconds", "train/grad_norm", "train/lr");

    /** Of one stage: (step, value) of every reading. */
    private record Line(List<double[]> points) {}

    /** What is drawn in a panel, by the stage's name. */
    private final Map<String, Map<String, Line>> panels = new LinkedHashMap<>();
    private final List<String> names = new ArrayList<>();
    private final StringBuilder out = new StringBuilder();

    private Plot() {}

    /** @return an SVG picture of all runs that wrote metrics */
    static String of(List<RunStatus> runs) {
        Plot p = new Plot();
        for (RunStatus r : runs) p.read(r.directory().resolve("metrics.jsonl"), runs.size() > 1 ? r.name() + ": " : "");
        if (p.names.isEmpty()) throw Fail.usage("no step was written to any metrics.jsonl here: nothing to plot");
        return p.svg();
    }

    private void read(Path metrics, String prefix) {
        if (!Files.exists(metrics)) return;
        Map<String, Integer> steps = new LinkedHashMap<>(); // blocks of a stage one after the other
        String last = "";
        int block = -1, at = -1, again = 1;
        try {
            ObjectMapper json = new ObjectMapper();
            for (String text : Files.readAllLines(metrics)) {
                JsonNode line = json.readTree(text);
                String stage = line.path("stage").asText();
                boolean anew = !stage.equals(last) || line.path("block").asInt(-1) == block && line.path("step").asInt() <= at;
                if (anew) for (again = 1; steps.containsKey(name(prefix, stage, again)); again++) {}
                last = stage;
                block = line.path("block").asInt(-1);
                at = line.path("step").asInt();
                String name = name(prefix, stage, again);
                int step = steps.merge(name, 1, Integer::sum);
                if (!names.contains(name)) names.add(name);
                line.properties().forEach(e -> {
                    if (BESIDE.contains(e.getKey())) return;
                    panels.computeIfAbsent(e.getKey(), _ -> new LinkedHashMap<>()).computeIfAbsent(name, _ -> new Line(new ArrayList<>())).points.add(new double[] {step, e.getValue().asDouble()});
                });
            }
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read: %s", metrics, e.getMessage());
        }
    }

    /** A stage that a recipe names twice is told from itself. */
    private static String name(String prefix, String stage, int again) {
        return prefix + stage + (again > 1 ? " #" + again : "");
    }

    private String svg() {
        int keys = (names.size() + 2) / 3 * KEY, height = panels.size() * (TOP + HEIGHT + GAP) + keys;
        add("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">%n", LEFT + WIDTH + 20, height);
        add("<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>%n");
        int y = TOP;
        for (Map.Entry<String, Map<String, Line>> e : panels.entrySet()) {
            panel(y, e.getKey(), e.getValue());
            y += TOP + HEIGHT + GAP;
        }
        for (int i = 0; i < names.size(); i++) {
            int x = LEFT + i % 3 * (WIDTH / 3), at = y - TOP - 4 + i / 3 * KEY;
            add("<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"%s\" stroke-width=\"3\"/>", x, at, x + 20, at, colour(i));
            add("<text x=\"%d\" y=\"%d\">%s</text>%n", x + 26, at + 4, escaped(names.get(i)));
        }
        return out.append("</svg>\n").toString();
    }

    private void panel(int top, String title, Map<String, Line> lines) {
        double[] xs = range(lines, 0), ys = range(lines, 1);
        add("<text x=\"%d\" y=\"%d\" font-weight=\"bold\">%s</text>%n", LEFT, top - 10, escaped(title));
        for (double v : ticks(ys)) {
            double y = place(v, ys, top + HEIGHT, top);
            add("<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#dddddd\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>%n", LEFT, y, LEFT + WIDTH, y, LEFT - 6, y + 4, label(v));
        }
        for (double v : ticks(xs)) add("<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>%n", place(v, xs, LEFT, LEFT + WIDTH), top + HEIGHT + 16, label(v));
        add("<text x=\"%d\" y=\"%d\" text-anchor=\"end\">step</text>%n", LEFT + WIDTH, top + HEIGHT + 30);
        lines.forEach((name, line) -> {
            StringBuilder points = new StringBuilder();
            for (double[] p : line.points) {
                if (Double.isFinite(p[1])) points.append(String.format(Locale.ROOT, "%.1f,%.1f ", place(p[0], xs, LEFT, LEFT + WIDTH), place(p[1], ys, top + HEIGHT, top)));
            }
            add("<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" points=\"%s\"/>%n", colour(names.indexOf(name)), points.toString().strip());
        });
        add("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888888\"/>%n", LEFT, top, WIDTH, HEIGHT);
    }

    private static double[] range(Map<String, Line> lines, int axis) {
        double[] r = {Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY};
        for (Line l : lines.values()) {
            for (double[] p : l.points) {
                if (!Double.isFinite(p[axis])) continue;
                r[0] = Math.min(r[0], p[axis]);
                r[1] = Math.max(r[1], p[axis]);
            }
        }
        double room = r[1] > r[0] ? axis * 0.05 * (r[1] - r[0]) : Math.max(1e-6, Math.abs(r[0]) * 0.1); // a single value has room on both sides
        return Double.isFinite(r[0]) ? new double[] {r[0] - room, r[1] + room} : new double[] {0, 1};
    }

    /** Multiples of 1, 2 or 5 times a power of ten, four to eight of them. */
    private static List<Double> ticks(double[] range) {
        double rough = (range[1] - range[0]) / 5, power = Math.pow(10, Math.floor(Math.log10(rough))), step = power * (rough / power >= 5 ? 5 : rough / power >= 2 ? 2 : 1);
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

    private static String colour(int i) {
        return COLOURS.get(i % COLOURS.size());
    }

    private static String escaped(String s) {
        return s.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;");
    }

    private void add(String format, Object... values) {
        out.append(String.format(Locale.ROOT, format, values));
    }
}
