package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.cuda.CudaBackend;
import dev.qat.cuda.Precision;
import dev.qat.cuda.StandIn;
import dev.qat.method.GroupAffine;
import dev.qat.model.Block;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.model.Positions;
import dev.qat.ops.Ops;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** What a Block-AP step of a Llama block puts on the stream: a number that grows is a step that slows. */
final class BlockLaunchesTest {
    private static final int B = 2, T = 32, STEPS = 6;

    private static long work() {
        StandIn.Counters c = StandIn.counters();
        return c.launches() + c.gemms() + c.copies() + c.fills();
    }

    /** What a step may not do once it is captured. */
    private static List<Long> forbidden() {
        StandIn.Counters c = StandIn.counters();
        return List.of(c.launches(), c.gemms(), c.copies(), c.fills(), c.allocs(), c.frees(), c.syncs(), c.downloads(), c.modules());
    }

    private static long launches(Precision precision) throws Exception {
        StandIn.load();
        try (CudaBackend b = new CudaBackend(StandIn.open(), precision)) {
            Memory memory = b.memory();
            Model model = new Model(ModelConfig.of(new ObjectMapper().readTree("""
                    {"model_type": "llama", "vocab_size": 16, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2,
                     "num_key_value_heads": 1, "max_position_embeddings": 64, "tie_word_embeddings": true}"""), "test"), memory);
            model.randomize(1);
            Block block = model.blocks().getFirst();
            List<GroupAffine> quantizers = GroupAffine.install(b, "steps", block.linears(), 2, 64, dev.qat.method.Rule.NONE);
            List<Param> weights = new ArrayList<>(block.linears().stream().map(l -> l.weight).toList()), scales = new ArrayList<>();
            weights.addAll(block.gains());
            for (GroupAffine q : quantizers) scales.addAll(q.params());
            Tensor x = memory.tensor("x", B * T, 64), target = memory.tensor("target", B * T, 64), loss = memory.tensor("loss", 1);
            b.fill(x, 0.5f);
            b.fill(target, 0.25f);
            Positions at = model.positions(B, T);
            try (AdamW adam = new AdamW(b, List.of(new AdamW.Group(weights, 1e-5, 0), new AdamW.Group(scales, 1e-4, 0)), AdamW.Config.DEFAULTS);
                 Step step = new Step(b, "step", true, t -> {
                     Ops.mse(t, loss, block.forward(t, x, at), target);
                     t.backward();
                     adam.update(t.backend());
                 })) {
                return count(adam, step);
            }
        }
    }

    private static long count(AdamW adam, Step step) {
        long eager = 0;
        for (int i = 0; i < STEPS; i++) {
            adam.prepare(1);
            long before = work(), graphs = StandIn.counters().graphLaunches();
            List<Long> still = forbidden();
            step.run();
            if (i == 1) eager = work() - before;
            if (i < 3) continue; // two eager steps, and the one that is captured
            assertEquals(1, StandIn.counters().graphLaunches() - graphs, "launches of a graph in step " + i);
            assertEquals(still, forbidden(), "step " + i + " did more than launch its graph");
        }
        return eager;
    }

    @Test
    void aBlockStepLaunchesNoMoreThanDesignSays() throws Exception {
        long fp32 = launches(Precision.FP32), bf16 = launches(Precision.BF16);
        System.err.printf("a Block-AP step of a Llama block: %d launches in fp32, %d in BF16%n", fp32, bf16);
        assertTrue(fp32 <= 60 && bf16 <= 60, "fp32 " + fp32 + ", bf16 " + bf16);
    }
}
