package dev.qat.train;

/** Who looks at a run while it works: the terminal's progress bar, a log, or nobody. */
public interface Watch {
    Watch NOBODY = new Watch() {
        @Override
        public Job job(String title, long steps) {
            return new Job() {
                @Override
                public void step(long done, String details) {}

                @Override
                public void close() {}
            };
        }

        @Override
        public void say(String line) {}
    };

    /** A piece of work of known length. */
    interface Job extends AutoCloseable {
        void step(long done, String details);

        @Override
        void close();
    }

    Job job(String title, long steps);

    /** A line to keep. */
    void say(String line);
}
