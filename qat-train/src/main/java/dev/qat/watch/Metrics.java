package dev.qat.watch;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.tensor.Fail;
import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** One JSON object per training step, appended to metrics.jsonl: what a plot of the run is made from. */
public final class Metrics implements AutoCloseable {
    private static final ObjectMapper JSON = new ObjectMapper();
    /** Nanoseconds after which a line is in the file at the latest when the next one comes, for those who follow it. */
    private static final long SHOWN = 1_000_000_000L;

    private final Path file;
    private final FileChannel channel;
    private final OutputStream out;
    private final List<Onlooker> onlookers = new ArrayList<>();
    private long bytes, shown = System.nanoTime();

    /** Goes on after the first {@code keep} bytes of what an earlier process wrote: the rest belongs to steps that are taken again. */
    public Metrics(Path file, long keep) {
        this.file = file;
        try {
            channel = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.WRITE);
            bytes = Math.min(keep, channel.size());
            channel.truncate(bytes).position(bytes);
            out = new BufferedOutputStream(Channels.newOutputStream(channel), 1 << 16);
        } catch (IOException e) {
            throw Fail.io(e, "cannot write %s: %s. Choose another output directory with output=DIR.", file, e);
        }
    }

    /** Where steps are shown as well: first those that earlier processes took, and the rows they judged; so nobody need be shown a step twice. */
    public void show(Onlooker on, List<Row> rows) {
        try (Stream<String> lines = Files.lines(file)) {
            lines.forEach(line -> again(on, line));
        } catch (IOException e) {
            throw Fail.io(e, "cannot read %s: %s", file, e);
        }
        rows.forEach(on::judged);
        onlookers.add(on);
    }

    private void again(Onlooker on, String line) {
        try {
            JsonNode n = JSON.readTree(line);
            Map<String, Double> more = new LinkedHashMap<>();
            n.properties().forEach(e -> {
                if (e.getKey().startsWith("train/") && !Onlooker.USUAL.contains(e.getKey())) more.put(e.getKey(), e.getValue().asDouble());
            });
            on.step(n.path("stage").asText(), n.path("block").asInt(-1), n.path("step").asLong(), n.path("train/loss").asDouble(), n.path("train/grad_norm").asDouble(),
                    n.path("train/lr").asDouble(), more);
        } catch (JsonProcessingException e) {
            throw Fail.data("%s holds a line that is no JSON: %s", file, line);
        }
    }

    /** A stage was judged. */
    public void judged(Row row) {
        onlookers.forEach(o -> o.judged(row));
    }

    /** Appends a step; {@code block} is −1 outside block-wise training. */
    public void step(String stage, int block, long step, double loss, double norm, double rate, double seconds, Map<String, Double> more) {
        ObjectNode line = JSON.createObjectNode().put("stage", stage);
        if (block >= 0) line.put("block", block);
        line.put("step", step).put("train/loss", loss).put("train/grad_norm", norm).put("train/lr", rate).put("seconds", seconds);
        more.forEach(line::put);
        byte[] utf8 = (line + "\n").getBytes(StandardCharsets.UTF_8);
        onlookers.forEach(o -> o.step(stage, block, step, loss, norm, rate, more));
        try {
            out.write(utf8);
            bytes += utf8.length;
            if (System.nanoTime() - shown < SHOWN) return;
            out.flush();
            shown = System.nanoTime();
        } catch (IOException e) {
            throw full(e);
        }
    }

    /** Bytes written so far; all of them are with the operating system when this returns. */
    public long position() {
        try {
            out.flush();
            return bytes;
        } catch (IOException e) {
            throw full(e);
        }
    }

    /** Makes what was written durable; may be called from another thread. */
    public void force() {
        try {
            channel.force(false);
        } catch (IOException e) {
            throw full(e);
        }
    }

    private Fail full(IOException e) {
        return Fail.io(e, "cannot write %s: %s. Is the disk full, or the output directory gone?", file, e);
    }

    @Override
    public void close() {
        try (channel) {
            out.flush();
        } catch (IOException e) {
            throw full(e);
        }
    }
}
