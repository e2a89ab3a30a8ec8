package dev.qat.watch;

import java.util.ArrayList;
import java.util.List;
import java.util.function.ObjLongConsumer;

/** A test's watch: sees every step of every job, by the job's title and how many are done, and keeps what is said. */
public record Witness(ObjLongConsumer<String> step, List<String> said) implements Watch {
    public Witness(ObjLongConsumer<String> step) {
        this(step, new ArrayList<>());
    }

    @Override
    public Job job(String title, long steps) {
        return new Job() {
            @Override
            public void step(long done, String details) {
                step.accept(title, done);
            }

            @Override
            public void close() {}
        };
    }

    @Override
    public void say(String line) {
        said.add(line);
    }

    @Override
    public boolean reads() {
        return false;
    }
}
