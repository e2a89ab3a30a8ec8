package dev.qat.tensor;

import java.util.ArrayDeque;

/** Where work is done when it is issued, and so is a note. */
final class HostNotes implements Notes {
    private final Memory memory;
    private final Tensor[] of;
    private final ArrayDeque<float[]> notes = new ArrayDeque<>();

    HostNotes(Memory memory, Tensor[] of) {
        this.memory = memory;
        this.of = of;
    }

    @Override
    public void make() {
        float[] note = new float[of.length];
        for (int i = 0; i < of.length; i++) note[i] = memory.floats(of[i])[0];
        notes.add(note);
    }

    @Override
    public boolean ready() {
        return !notes.isEmpty();
    }

    @Override
    public float[] read() {
        return notes.remove();
    }

    @Override
    public void forget() {
        notes.clear();
    }

    @Override
    public void close() {}
}
