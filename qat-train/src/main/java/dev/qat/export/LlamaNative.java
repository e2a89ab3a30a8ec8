package dev.qat.export;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.StructLayout;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.file.Path;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BOOLEAN;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

/**
 * The part of llama.cpp's C API that judges a file, as build 4916 (2025-03) has it, called through the foreign-function
 * interface. Layouts: {@code llama_model_params}, {@code llama_context_params} and {@code llama_batch} of {@code llama.h}.
 */
final class LlamaNative {
    private static final Linker LINKER = Linker.nativeLinker();
    /** devices; n_gpu_layers, split_mode, main_gpu; tensor_split; progress callback and its data; kv_overrides; four flags. */
    private static final StructLayout MODEL_PARAMS = MemoryLayout.structLayout(ADDRESS, JAVA_INT, JAVA_INT, JAVA_INT, MemoryLayout.paddingLayout(4),
            ADDRESS, ADDRESS, ADDRESS, ADDRESS, JAVA_BOOLEAN, JAVA_BOOLEAN, JAVA_BOOLEAN, JAVA_BOOLEAN, MemoryLayout.paddingLayout(4));
    /** n_ctx, n_batch, n_ubatch, n_seq_max; threads; kinds; rope and yarn; defragmentation; callback; KV types; flags; abort callback. */
    private static final StructLayout CONTEXT_PARAMS = MemoryLayout.structLayout(MemoryLayout.sequenceLayout(9, JAVA_INT), MemoryLayout.sequenceLayout(6, JAVA_FLOAT),
            JAVA_INT, JAVA_FLOAT, MemoryLayout.paddingLayout(4), ADDRESS, ADDRESS, JAVA_INT, JAVA_INT, MemoryLayout.sequenceLayout(5, JAVA_BOOLEAN),
            MemoryLayout.paddingLayout(3), ADDRESS, ADDRESS);
    private static final long N_CTX = 0, N_BATCH = 4, N_UBATCH = 8, N_SEQ_MAX = 12, THREADS = 16, BATCH_THREADS = 20, TYPE_K = 88, TYPE_V = 92;
    /** n_tokens; token; embd; pos; n_seq_id; seq_id; logits. */
    private static final StructLayout BATCH = MemoryLayout.structLayout(JAVA_INT, MemoryLayout.paddingLayout(4), ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS);
    private static final int GGML_F32 = 0;

    private final SymbolLookup library;
    private final MethodHandle decode, logits, clear, tokenize, quantize;
    private MemorySegment model = MemorySegment.NULL, vocab = MemorySegment.NULL, context = MemorySegment.NULL;

    LlamaNative(Path file) throws Throwable {
        library = SymbolLookup.libraryLookup(file, Arena.global());
        decode = bind("llama_decode", FunctionDescriptor.of(JAVA_INT, ADDRESS, BATCH));
        logits = bind("llama_get_logits_ith", FunctionDescriptor.of(ADDRESS, ADDRESS, JAVA_INT));
        clear = bind("llama_kv_self_clear", FunctionDescriptor.ofVoid(ADDRESS));
        tokenize = bind("llama_tokenize", FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_INT, ADDRESS, JAVA_INT, JAVA_BOOLEAN, JAVA_BOOLEAN));
        quantize = bind("ggml_quantize_chunk", FunctionDescriptor.of(JAVA_LONG, JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG, JAVA_LONG, JAVA_LONG, ADDRESS));
        bind("llama_backend_init", FunctionDescriptor.ofVoid()).invokeExact();
    }

    MethodHandle bind(String name, FunctionDescriptor type) {
        return LINKER.downcallHandle(library.findOrThrow(name), type);
    }

    /** Opens a file; false where llama.cpp refuses it, having said why on standard error. */
    boolean load(String file) throws Throwable {
        try (Arena arena = Arena.ofConfined()) {
            var params = (MemorySegment) bind("llama_model_default_params", FunctionDescriptor.of(MODEL_PARAMS)).invoke((java.lang.foreign.SegmentAllocator) arena);
            model = (MemorySegment) bind("llama_model_load_from_file", FunctionDescriptor.of(ADDRESS, ADDRESS, MODEL_PARAMS)).invokeExact(arena.allocateFrom(file), params);
        }
        if (model.address() == 0) return false;
        vocab = (MemorySegment) bind("llama_model_get_vocab", FunctionDescriptor.of(ADDRESS, ADDRESS)).invokeExact(model);
        return true;
    }

    int vocabulary() throws Throwable {
        return (int) bind("llama_vocab_n_tokens", FunctionDescriptor.of(JAVA_INT, ADDRESS)).invokeExact(vocab);
    }

    int trainedContext() throws Throwable {
        return (int) bind("llama_model_n_ctx_train", FunctionDescriptor.of(JAVA_INT, ADDRESS)).invokeExact(model);
    }

    /** A context of so many tokens for so many sequences; keys and values in fp32, so that only the weights are quantized. */
    boolean context(int tokens, int sequences, int threads) throws Throwable {
        if (context.address() != 0) bind("llama_free", FunctionDescriptor.ofVoid(ADDRESS)).invokeExact(context);
        try (Arena arena = Arena.ofConfined()) {
            var params = (MemorySegment) bind("llama_context_default_params", FunctionDescriptor.of(CONTEXT_PARAMS)).invoke((java.lang.foreign.SegmentAllocator) arena);
            params.set(JAVA_INT, N_CTX, tokens);
            params.set(JAVA_INT, N_BATCH, tokens);
            params.set(JAVA_INT, N_UBATCH, Math.min(tokens, 512));
            params.set(JAVA_INT, N_SEQ_MAX, sequences);
            params.set(JAVA_INT, THREADS, threads);
            params.set(JAVA_INT, BATCH_THREADS, threads);
            params.set(JAVA_INT, TYPE_K, GGML_F32);
            params.set(JAVA_INT, TYPE_V, GGML_F32);
            context = (MemorySegment) bind("llama_init_from_model", FunctionDescriptor.of(ADDRESS, ADDRESS, CONTEXT_PARAMS)).invokeExact(model, params);
        }
        return context.address() != 0;
    }

    void clear() throws Throwable {
        clear.invokeExact(context);
    }

    /** Runs tokens at their positions in their sequences, all with logits.   ids, positions, sequences (n) */
    int decode(int[] ids, int[] positions, int[] sequences) throws Throwable {
        int n = ids.length;
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment ones = arena.allocate(JAVA_INT, n), lists = arena.allocate(ADDRESS, n), sequence = arena.allocateFrom(JAVA_INT, sequences);
            for (int i = 0; i < n; i++) {
                ones.setAtIndex(JAVA_INT, i, 1);
                lists.setAtIndex(ADDRESS, i, sequence.asSlice(4L * i));
            }
            MemorySegment batch = arena.allocate(BATCH);
            batch.set(JAVA_INT, 0, n);
            batch.set(ADDRESS, 8, arena.allocateFrom(JAVA_INT, ids));
            batch.set(ADDRESS, 24, arena.allocateFrom(JAVA_INT, positions));
            batch.set(ADDRESS, 32, ones);
            batch.set(ADDRESS, 40, lists);
            batch.set(ADDRESS, 48, arena.allocate(n).fill((byte) 1));
            return (int) decode.invokeExact(context, batch);
        }
    }

    /** The logits of token i of the last batch.   (V) */
    float[] logits(int i, int vocabulary) throws Throwable {
        MemorySegment row = (MemorySegment) logits.invokeExact(context, i);
        return row.reinterpret(4L * vocabulary).toArray(JAVA_FLOAT);
    }

    /** The ids of a text; with its BOS where the file asks for one, and special tokens written out in it found. */
    int[] tokenize(byte[] utf8) throws Throwable {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment ids = arena.allocate(JAVA_INT, utf8.length + 8L);
            int n = (int) tokenize.invokeExact(vocab, arena.allocateFrom(JAVA_BYTE, utf8.length == 0 ? new byte[1] : utf8), utf8.length, ids, utf8.length + 8, true, true);
            return ids.asSlice(0, 4L * Math.max(n, 0)).toArray(JAVA_INT);
        }
    }

    /** llama.cpp's own rounding of rows to a type.   floats (rows · cols) */
    byte[] quantize(int type, float[] floats, long rows, long cols, int bytes) throws Throwable {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(bytes, 64);
            long written = (long) quantize.invokeExact(type, arena.allocateFrom(JAVA_FLOAT, floats), out, 0L, rows, cols, MemorySegment.NULL);
            if (written != bytes) throw new IllegalStateException("ggml_quantize_chunk wrote " + written + " bytes, expected " + bytes);
            return out.toArray(ValueLayout.JAVA_BYTE);
        }
    }
}
