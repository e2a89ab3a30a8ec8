package dev.qat.export;

import dev.qat.data.GgmlType;
import java.io.DataInputStream;

/** How fast llama.cpp's library makes the products of one token, in a process of its own. */
public final class LlamaProducts implements AutoCloseable {
    private final LlamaProcess llama = LlamaProcess.start();
    private int made;

    /** Square matrices of a type, ready for so many turns.   → what {@link #seconds} knows them by */
    public int make(GgmlType type, int width, int matrices, int threads, int turns) {
        llama.ask(o -> {
            o.writeByte('M');
            LlamaProcess.write(o, new int[] {type.id, Math.toIntExact(type.rowBytes(width)), width, matrices, threads, turns});
        }, DataInputStream::readInt);
        return made++;
    }

    /** For one token's products with all of them. */
    public double seconds(int index) {
        return llama.ask(o -> {
            o.writeByte('m');
            o.writeInt(index);
        }, DataInputStream::readLong) * 1e-9;
    }

    @Override
    public void close() {
        llama.close();
    }
}
