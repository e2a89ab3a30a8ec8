package dev.qat.export;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.tensor.Fail;
import org.junit.jupiter.api.function.Executable;

/** Asserts that an act fails with this exit code and one line that mentions everything a user needs. */
final class Failing {
    private Failing() {}

    static void with(int code, Executable act, Object... mentions) {
        Fail fail = assertThrows(Fail.class, act);
        assertEquals(code, fail.code(), fail.getMessage());
        for (Object m : mentions) {
            assertTrue(fail.getMessage().contains(m.toString()), () -> "expected '" + m + "' in: " + fail.getMessage());
        }
        assertFalse(fail.getMessage().contains("\n"), fail.getMessage());
    }
}
