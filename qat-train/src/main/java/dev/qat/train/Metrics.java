package dev.qat.train;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.tensor.Fail;
import java.io.BufferedWriter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** One JSON object per training step, appended to metrics.jsonl: what a plot of the run is made from. */
public final class Metrics implements AutoCloseable {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Path file;
    private final BufferedWriter out;

    public Metrics(Path file) {
        this.file = file;
        try {
            out = Files.newBufferedWriter(file);
        } catch (IOException e) {
            throw Fail.io(e, "cannot write %s: %s. Choose another output directory with output=DIR.", file, e);
        }
    }

    /** Appends a step; {@code block} is −1 outside block-wise training. */
    public void step(String stage, int block, long step, double loss, double norm, double rate, double seconds) {
        ObjectNode line = JSON.createObjectNode().put("stage", stage);
        if (block >= 0) line.put("block", block);
        line.put("step", step).put("train/loss", loss).put("train/grad_norm", norm).put("train/lr", rate).put("seconds", seconds);
        try {
            out.write(line.toString());
            out.newLine();
        } catch (IOException e) {
            throw Fail.io(e, "cannot write %s: %s. Is the disk full?", file, e);
        }
    }

    @Override
    public void close() {
        try {
            out.close();
        } catch (IOException e) {
            throw Fail.io(e, "cannot write %s: %s. Is the disk full?", file, e);
        }
    }
}
