"""What our Trainer computes in another way than the Trainer has the same value."""

import torch
from transformers import RobertaConfig, RobertaForQuestionAnswering, Trainer, TrainingArguments

from qa.training.trainer import WindowTrainer


def test_the_estimate_of_operations_is_the_trainers_own(tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    model = RobertaForQuestionAnswering(RobertaConfig(vocab_size=100, **sizes))
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    trainer = WindowTrainer(model=model, args=arguments, train_dataset=[], batches=[], padding_counts=False)
    for rows, width in ((1, 48), (3, 7)):
        inputs = {"input_ids": torch.ones(rows, width, dtype=torch.int64)}
        assert trainer.floating_point_ops(inputs) == Trainer.floating_point_ops(trainer, inputs) > 0
