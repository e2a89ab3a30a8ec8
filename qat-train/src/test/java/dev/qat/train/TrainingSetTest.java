package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.data.Windows;
import dev.qat.tensor.Fail;
import java.util.List;
import org.junit.jupiter.api.Test;

/** A stage can train on the user's text alone or on the model's own samples alone. */
class TrainingSetTest {
    private final Windows text = Windows.train(new int[] {1, 2, 3, 4}, 2), samples = Windows.separate(List.of(new int[] {7, 8, 9}), 2);

    @Test
    void partsAreKeptApartAndJoinedInOrder() {
        TrainingSet set = TrainingSet.of(text, samples);
        assertEquals(2, set.part(Part.TEXT).count());
        assertArrayEquals(new int[] {7, 8}, set.part(Part.SAMPLES).inputs(0));
        assertEquals(3, set.part(Part.ALL).count());
        assertArrayEquals(new int[] {7, 8}, set.part(Part.ALL).inputs(2));
    }

    @Test
    void aPartThatIsNotThereIsRefused() {
        Fail f = assertThrows(Fail.class, () -> TrainingSet.of(text, null).part(Part.SAMPLES));
        assertTrue(f.getMessage().contains("data.samples"), f.getMessage());
    }
}
