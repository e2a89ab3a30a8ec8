package dev.qat.data;

import java.util.List;

/**
 * One value of a GGUF file's metadata, as it is to be written.
 *
 * @param type  the file's number for the type: 4 u32, 5 i32, 6 f32, 7 bool, 8 string, 9 array
 * @param value Integer, Float, Boolean, String, {@code List<String>}, float[] or int[]
 */
public record GgufValue(int type, Object value) {
    static final int U8 = 0, I8 = 1, U16 = 2, I16 = 3, U32 = 4, I32 = 5, F32 = 6, BOOL = 7, STRING = 8, ARRAY = 9, U64 = 10, I64 = 11, F64 = 12;

    public static GgufValue of(int whole) {
        return new GgufValue(U32, whole);
    }

    public static GgufValue of(float number) {
        return new GgufValue(F32, number);
    }

    public static GgufValue of(boolean flag) {
        return new GgufValue(BOOL, flag);
    }

    public static GgufValue of(String text) {
        return new GgufValue(STRING, text);
    }

    public static GgufValue of(List<String> texts) {
        return new GgufValue(ARRAY, List.copyOf(texts));
    }

    public static GgufValue of(float[] numbers) {
        return new GgufValue(ARRAY, numbers.clone());
    }

    public static GgufValue of(int[] numbers) {
        return new GgufValue(ARRAY, numbers.clone());
    }

    /** Bytes of one element of a type of fixed size, 0 for strings, arrays and numbers that are no type. */
    static int width(int type) {
        return switch (type) {
            case U8, I8, BOOL -> 1;
            case U16, I16 -> 2;
            case U32, I32, F32 -> 4;
            case U64, I64, F64 -> 8;
            default -> 0;
        };
    }
}
