package dev.qat.train;

/** One stage of a recipe: a record that says what to do to the model, and does it. Its name is its key in the registry. */
public interface Stage {
    /** Works on {@code run.student()}; what it leaves in the sites is what is judged next. */
    void run(Run run);

    /**
     * Whether it brings blocks of the student into memory one by one, as it needs them, and lets them go when codes stand for them.
     * Before one that does not, all of the student is brought into memory as fp32 masters.
     */
    default boolean streams() {
        return false;
    }

    /** Whether the student is worth a line of the table after this stage. */
    default boolean judged() {
        return true;
    }

    /** What tells this stage from others of its method in tables; empty for nothing. */
    default String variant() {
        return "";
    }
}
