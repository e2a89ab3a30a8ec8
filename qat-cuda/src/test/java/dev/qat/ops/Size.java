package dev.qat.ops;

import java.util.ArrayList;
import java.util.List;

/** A shape by its letters, such as N=3 I=5 O=7. */
record Size(List<String> letters, List<Integer> values) {
    int at(String letter) {
        int i = letters.indexOf(letter);
        if (i < 0) throw new IllegalArgumentException("no " + letter + " in " + this);
        return values.get(i);
    }

    /** One size per line of numbers. */
    static List<Size> sizes(String letters, int[]... lines) {
        List<Size> out = new ArrayList<>();
        for (int[] line : lines) {
            List<String> names = List.of(letters.split(" "));
            if (names.size() != line.length) throw new IllegalArgumentException(letters + " for " + line.length + " numbers");
            out.add(new Size(names, java.util.Arrays.stream(line).boxed().toList()));
        }
        return out;
    }

    static int[] of(int... values) {
        return values;
    }

    @Override
    public String toString() {
        var text = new StringBuilder();
        for (int i = 0; i < values.size(); i++) text.append(i == 0 ? "" : " ").append(letters.get(i)).append('=').append(values.get(i));
        return text.toString();
    }
}
