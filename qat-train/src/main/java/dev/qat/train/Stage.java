package dev.qat.train;

/** One stage of a recipe: a record that says what to do to the model, and does it. Its name is its key in the registry. */
public interface Stage {
    /** Works on {@code run.student()}; what it leaves in the sites is what is judged next. */
    void run(Run run);
}
