package dev.qat.watch;

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

        @Override
        public boolean reads() {
            return false;
        }
    };

    /** A piece of work of known length. */
    interface Job extends AutoCloseable {
        void step(long done, String details);

        @Override
        void close();
    }

    Job job(String title, long steps);

    /** Whether anybody reads the details of a step; where nobody does, the device's peak need not be measured. */
    default boolean reads() {
        return true;
    }

    /** A line to keep. */
    void say(String line);
}
