package dev.qat.cli;

import dev.qat.watch.Watch;

/** Hands the run's progress to the terminal. */
final class Screen implements Watch {
    private Progress current;

    @Override
    public Job job(String title, long steps) {
        Progress progress = Progress.start(title, steps);
        current = progress;
        return new Job() {
            @Override
            public void step(long done, String details) {
                progress.step(done, details);
            }

            @Override
            public void close() {
                current = null;
                progress.close();
            }
        };
    }

    @Override
    public void say(String line) {
        if (current != null) current.say(line);
        else System.err.println(line);
    }
}
