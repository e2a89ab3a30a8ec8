package dev.qat.cli;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.w3c.dom.Element;

final class StatusTest {
    @TempDir
    Path temp;

    private static String out(int code, String... command) {
        PrintStream before = System.out;
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        System.setOut(new PrintStream(bytes, true, UTF_8));
        try {
            assertEquals(code, Main.run(command), () -> bytes.toString(UTF_8));
        } finally {
            System.setOut(before);
        }
        return bytes.toString(UTF_8);
    }

    @Test
    void aRunIsShownFinishedInterruptedAndSilent() throws Exception {
        TinyDir dir = TinyDir.in(temp);
        out(0, "train", dir.recipe());
        Path run = temp.resolve("runs/tiny");
        String status = out(0, "status", run.toString());
        assertTrue(status.contains("finished") && status.contains("e2e-qp") && !status.contains("checkpoint"), status);
        assertTrue(out(0, "ls", temp.resolve("runs").toString()).lines().anyMatch(l -> l.startsWith("tiny") && l.contains("finished")));
        try (Stream<Path> boards = Files.walk(run.resolve("tensorboard"))) {
            assertEquals(4, boards.filter(f -> f.getFileName().toString().startsWith("events.out")).count(), "fp, rtn, block-ap, e2e-qp");
        }
        Path plot = temp.resolve("plot.svg");
        out(0, "status", run.toString(), "--plot", plot.toString());
        var svg = DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(plot.toFile());
        assertEquals(2, svg.getElementsByTagName("polyline").getLength(), "the losses of block-ap and of e2e-qp");
        long steps = Files.lines(run.resolve("metrics.jsonl")).filter(l -> l.contains("e2e-qp")).count();
        assertEquals(steps, ((Element) svg.getElementsByTagName("polyline").item(1)).getAttribute("points").split(" ").length);
        String pulse = Files.readString(run.resolve("status.json"));
        // a process that died leaves a pulse that says it runs
        Files.writeString(run.resolve("status.json"), pulse.replace("\"finished\"", "\"running\""));
        assertTrue(out(0, "status", run.toString()).matches("(?s).*interrupted\\n  at          e2e-qp 4/4\\n  loss .*checkpoint  none.*"), out(0, "status", run.toString()));
        // a sweep's runs lie one folder deeper
        assertTrue(out(0, "ls", temp.toString()).lines().anyMatch(l -> l.matches("runs/tiny +interrupted +e2e-qp 4/4 +\\d+\\.\\d{3} +\\d\\.\\d{4} +.* ago")), out(0, "ls", temp.toString()));
        assertTrue(out(0, "status", "--json", run.toString()).contains("\"state\" : \"interrupted\""));
        out(0, "status", "--alive", "30", temp.resolve("runs").toString());
        out(0, "status", "--alive", "30", temp.resolve("nothing").toString());
        // one that is at work but has been silent since long ago
        Files.writeString(run.resolve("status.json"), pulse.replace("\"finished\"", "\"running\"").replaceAll("\"updated\" : \"[^\"]*\"", "\"updated\" : \"2020-01-01T00:00:00Z\""));
        try (var lock = java.nio.channels.FileChannel.open(run.resolve(".lock"), java.nio.file.StandardOpenOption.WRITE)) {
            lock.lock();
            out(1, "status", "--alive", "30", temp.resolve("runs").toString());
        }
    }

    /** Two stages of one name go on in one line, and what was judged after them stands where they end. */
    @Test
    void stagesThatGoOnAreOneLine() throws Exception {
        StringBuilder lines = new StringBuilder();
        for (String stage : List.of("absmean", "absmean", "twn")) {
            for (int i = 0; i < 3; i++) lines.append("{\"stage\":\"%s\",\"step\":%d,\"train/loss\":%d,\"train/lr\":1}%n".formatted(stage, i, 5 - i));
        }
        Files.writeString(temp.resolve("metrics.jsonl"), lines);
        Files.writeString(temp.resolve("result.json"), """
                {"stages": [{"name": "fp", "perplexity": 3}, {"name": "absmean", "perplexity": 9, "notes": {"dead_stayed": 0.5}},
                            {"name": "absmean", "perplexity": 8, "notes": {"dead_stayed": 0.75}}, {"name": "twn", "perplexity": 7}]}""");
        Files.createFile(temp.resolve("recipe.yaml"));
        Path plot = temp.resolve("plot.svg");
        out(0, "status", temp.toString(), "--plot", plot.toString());
        var svg = DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(plot.toFile());
        var drawn = svg.getElementsByTagName("polyline");
        List<Integer> points = IntStream.range(0, drawn.getLength()).mapToObj(i -> ((Element) drawn.item(i)).getAttribute("points").split(" ").length).toList();
        assertEquals(List.of(6, 3, 2, 1, 2), points, "losses of absmean and twn; perplexities of both; what stayed dead");
        assertEquals(5, svg.getElementsByTagName("circle").getLength());
        String[] losses = ((Element) drawn.item(0)).getAttribute("points").split("[ ,]"), judged = ((Element) drawn.item(2)).getAttribute("points").split("[ ,]");
        assertEquals(List.of(losses[4], losses[10]), List.of(judged[0], judged[2]), "judged at the third and the sixth step");
    }
}
