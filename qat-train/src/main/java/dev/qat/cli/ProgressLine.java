package dev.qat.cli;

import java.io.PrintStream;
import java.util.function.IntSupplier;
import me.tongfei.progressbar.ProgressBar;
import me.tongfei.progressbar.ProgressBarBuilder;
import me.tongfei.progressbar.ProgressBarConsumer;
import me.tongfei.progressbar.ProgressState;

/**
 * Progress as one line that is drawn over: {@code train  42% ━━━━━━━━━━━━──────────────── 420/1000 | loss 2.3412}.
 *
 * <p>The library's thread draws five times a second whatever the pace of the steps. The line is laid out here because the
 * figures beside the bar matter more than the bar: in a narrow window the bar shrinks, then goes, before they are cut.
 */
final class ProgressLine implements Progress {
    private static final int MILLIS = 200, LONGEST_BAR = 30, SHORTEST_BAR = 8;
    private static final String OVER = "\r\u001b[K";         // back to the line's start, and clear it

    private final PrintStream out;
    private final boolean draws;
    private final ProgressBar bar;
    private String line = "";

    ProgressLine(PrintStream out, IntSupplier width, boolean draws, String task, long total) {
        this.out = out;
        this.draws = draws;
        this.bar = new ProgressBarBuilder().setTaskName(task).setInitialMax(total).setUpdateIntervalMillis(MILLIS)
                .setRenderer((state, columns) -> layOut(state, columns, this.draws)).setConsumer(new Screen(width)).build();
    }

    @Override
    public void step(long done, String details) {
        bar.setExtraMessage(details);
        bar.stepTo(done);
    }

    @Override
    public void say(String text) {
        synchronized (out) {
            out.print(OVER + text + System.lineSeparator() + line);
            out.flush();
        }
    }

    @Override
    public void close() {
        bar.close();
        synchronized (out) {
            out.println();
            out.flush();
        }
    }

    private static String layOut(ProgressState state, int columns, boolean draws) {
        double share = state.getMax() <= 0 ? 1 : Math.clamp((double) state.getCurrent() / state.getMax(), 0.0, 1.0);
        return layOut(state.getTaskName(), share, state.getCurrent() + "/" + state.getMax(),
                state.getExtraMessage(), columns, draws);
    }

    /** One line of at most {@code columns}. */
    static String layOut(String task, double share, String steps, String details, int columns, boolean draws) {
        // rounded down, as 100% is a promise
        String head = "%s %3d%% ".formatted(task, (int) Math.floor(share * 100 + 1e-9));
        String tail = steps + (details.isEmpty() ? "" : " | " + details);
        int room = Math.min(LONGEST_BAR, columns - head.length() - tail.length() - 1);
        String bar = room < SHORTEST_BAR ? "" : bar(share, room, draws) + " ";
        String line = head + bar + tail;
        return line.length() <= columns ? line : line.substring(0, Math.max(0, columns - 3)) + "...";
    }

    private static String bar(double share, int length, boolean draws) {
        int full = (int) Math.round(share * length);
        return (draws ? "━" : "#").repeat(full) + (draws ? "─" : ".").repeat(length - full);
    }

    /** Where the library sends its line; asked for its width at each line, so that a resized window is followed. */
    private final class Screen implements ProgressBarConsumer {
        private final IntSupplier width;

        Screen(IntSupplier width) {
            this.width = width;
        }

        @Override
        public int getMaxRenderedLength() {
            return width.getAsInt() - 1;                     // a full last column would wrap
        }

        @Override
        public void accept(String text) {
            synchronized (out) {
                line = text;
                out.print(OVER + text);
                out.flush();
            }
        }

        /** The library forgets this call for a bar that closes before its first tick, so the line is ended above. */
        @Override
        public void close() {}
    }
}
