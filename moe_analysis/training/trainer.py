"""`train`: a configuration in, a finished run out, through transformers' Trainer."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate.data_loader import prepare_data_loader
from torch import nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainingArguments, set_seed

from ..backbones import load_tokenizer
from ..model_card import hide_base_path, write_card
from ..optim import build_optimizer, router_parameters
from ..tasks.batches import padding_of
from . import distributed
from .adapter_source import refuse_another_source
from .answers import AnswerLoss
from .checkpoints import checkpoint_to_resume, rotate, seal, unseal
from .config import TrainConfig, check_config
from .evaluation import by_dataset, evaluate_rows, outcomes_frame
from .files import FINISHED, history_frame, write_table
from .origin import refuse_another_origin, rows_digests, tokens_digest, warn_of_other_rows
from .panel import look_at, shown
from .prepare import Data, LikeLengths, collate_share, hold_clusters, prepare_data, prepare_model, write_beginning
from .recorders.live_recorder import LiveRecorder
from .recorders.recorder import HookedRecorder
from .run import Run
from .status import Status, check_permit, check_reports, checked_out, locked, reported, saved_when_stopped
from .unfit import recorders_of, refuse_unfit, refuse_unreadable


def train(
    config: TrainConfig, out: str | Path = "runs", progress: bool | None = None, permit: Path | None = None
) -> Run:
    """Train, record and evaluate one run in `out/<run name>`; a finished one is returned, an interrupted one resumed.

    The same configuration and seed give the same history on the same machine. Ctrl-C and a notebook's stop button stop
    the run after the current step, with a checkpoint; pressed again, they stop it at once. A warning (`RunWarning`)
    names a damaged checkpoint that an earlier one stands in for, and rows that have changed since a run finished.

    Under torchrun, all processes train one run together, and each returns that run. batch_size is the batch of all
    processes, so their number changes only rounding, the noise of dropout and noisy gates, and balance losses: each
    process computes its own, and these are averaged, since they are not linear in the tokens.

    Args:
        config: What is trained.
        out: Folder of the runs.
        progress: None shows a panel in a notebook and in a terminal (on stderr): time left, loss, entropy of the
            gates, load of the experts, dead experts. True writes one line per minute elsewhere too, False shows nothing.
        permit: A file; when it is deleted, the run stops after the current step, with a checkpoint.

    Raises:
        ValueError: For a configuration that cannot be run, and for variables of accelerate's that ask for other numbers;
            before the weights of the backbone are loaded, and leaving no file.
        RunError: For a folder that cannot be written, or that another process holds; for a run to resume whose
            checkpoints are damaged, or whose rows, tokenizer or backbone have changed since it began.
        RecordError: For a run to resume whose records are damaged.
        RunStopped: When the permit was deleted.

    Example:
        >>> import peft
        >>> lora = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
        >>> config = ma.TrainConfig(adapter=lora, datasets=["add_small"], steps=2, batch_size=4, eval_rows=2)
        >>> run = ma.train(config, out=folder)
        >>> run.finished, len(run.history.query("split == 'train'"))
        (True, 2)
        >>> ma.train(config, out=folder).id == run.id  # a finished run is read, not repeated
        True
    """
    check_config(config)
    out = checked_out(out)
    distributed.start()
    distributed.check_batch(config.batch_size)
    check_permit(permit)
    folder = out / config.run_name
    refuse_another_source(folder, config.system)
    run = Run(folder, config)
    if distributed.together(lambda: run.finished):  # which may lie where nothing can be written
        return finished(folder)
    distributed.check_environment(config.precision)
    check_reports(config.reports)
    refuse_unfit([config])
    with locked(folder):
        if distributed.together(lambda: run.finished):  # meanwhile, by the process that held it
            return finished(folder)
        last = distributed.together(lambda: checkpoint_to_resume(folder / "checkpoints"))
        status = Status(folder, config.steps)

        def made_from(**now: Any) -> None:
            """Note what the run is made from; a run that resumes refuses anything else than it began with."""
            if last is not None:
                refuse_another_origin(folder, config, status.previous, now)
            status.values |= now

        def check_rows(frames: Any, kept: Any) -> None:
            made_from(rows_sha256=rows_digests(frames))
            refuse_unreadable(config, tokenizer, frames, kept)

        tokenizer = load_tokenizer(config.backbone)
        data, clusters = distributed.together(lambda: prepare_data(config, tokenizer, check_rows))
        set_seed(config.seed)
        model, _, digest = prepare_model(config)
        made_from(backbone_sha256=digest)
        distributed.together(lambda: write_beginning(config, folder, clusters))
        if clusters is not None:
            hold_clusters(model, clusters, config, tokenizer)
        trainer = build_trainer(config, folder, model, tokenizer, data, status)
        made_from(tokens_sha256=tokens_digest(example for example, _ in trainer.train_dataset))
        if not distributed.first():
            torch.manual_seed(config.seed + distributed.rank())  # rows of different processes share no noise
        watched = progress if distributed.first() else False
        with shown(lambda: look_at(run), watched), reported(trainer, config, folder):
            with saved_when_stopped(trainer, permit):
                trainer.train(resume_from_checkpoint=None if last is None else str(last))
            finish(run, trainer, data, status)
    return Run.load(folder)


def finished(folder: Path) -> Run:
    """A run that is read, not trained; a warning says where its rows have changed."""
    run = Run.load(folder)
    if distributed.first():
        warn_of_other_rows([run])
    return run


def build_trainer(
    config: TrainConfig, folder: Path, model: nn.Module, tokenizer: Any, data: dict[str, Data], status: Status
) -> AdapterTrainer:
    optimizer = build_optimizer(
        config.optimizer, model, config.lr, config.router_lr, config.weight_decay, config.optimizer_options
    )
    schedule, schedule_options = schedule_of(config)
    arguments = TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        max_steps=config.steps,
        per_device_train_batch_size=config.batch_size // distributed.world_size(),
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=config.lr,
        lr_scheduler_type=schedule,
        lr_scheduler_kwargs=schedule_options,
        warmup_steps=config.warmup_steps,
        max_grad_norm=config.max_grad_norm or math.inf,  # Trainer still reports the norm
        bf16=config.precision == "bf16",
        eval_strategy="steps" if config.eval_every else "no",
        eval_steps=config.eval_every or None,
        save_steps=config.save_every,
        logging_steps=1,
        logging_nan_inf_filter=False,  # a diverged run must look diverged
        seed=config.seed,
        data_seed=config.seed,
        run_name=config.run_name,
        report_to=[],  # `reported` does it
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        average_tokens_across_devices=True,  # a loss is the mean over the answer tokens of all processes
        # experts are in stacks that every token's gates multiply, so each step reaches every parameter, and a search
        # for those it missed would cost a walk through the graph; a test checks this for every system
        ddp_find_unused_parameters=False,
    )
    distributed.one_device_a_process(arguments)
    live = LiveRecorder(model, folder, config.steps)
    recorders = [live, *recorders_of(config, model, folder)]
    trainer = AdapterTrainer(
        model=model,
        args=arguments,
        train_dataset=data["train"].tokenized(tokenizer, config),
        eval_dataset=data["test"].frame,
        data_collator=lambda rows: collate_share(rows, padding_of(tokenizer)),
        processing_class=tokenizer,
        optimizers=(optimizer, None),
        callbacks=[status, *recorders] if distributed.first() else recorders,
    )
    trainer.attach(config, data["test"], recorders, live)
    trainer.remove_callback(PrinterCallback)
    return trainer


def schedule_of(config: TrainConfig) -> tuple[str, dict[str, Any]]:
    """transformers' name and options of a schedule: warm-up, then constant or decaying to `final_lr` of the peak."""
    if config.schedule == "constant":
        return "constant_with_warmup", {}
    decay = max(1, config.steps - config.warmup_steps)
    return "warmup_stable_decay", {
        "num_decay_steps": decay,
        "decay_type": config.schedule,
        "min_lr_ratio": config.final_lr,
    }


class AdapterTrainer(AnswerLoss):
    """Trainer that logs answer accuracy, scales balance losses correctly, and never leaves half a checkpoint."""

    def attach(self, config: TrainConfig, test: Data, recorders: list[HookedRecorder], live: LiveRecorder) -> None:
        self.run_config, self.test, self.recorders, self.live = config, test, recorders, live
        self.tested: tuple[int, pd.DataFrame] = (-1, pd.DataFrame())  # rows of the latest evaluation, and its step
        self.step_sums = {"right": 0.0, "answers": 0.0, "balance_loss": 0.0}

    def get_train_dataloader(self) -> DataLoader:
        """Every process draws the batches that one process would, and the collator keeps its share of each.

        accelerate's own division deals out the batches of a loader and fills up an epoch's last ones with rows of its
        first: other rows than those of one process.
        """
        loader = DataLoader(
            self.train_dataset,
            self.run_config.batch_size,
            sampler=self._get_train_sampler() if self.run_config.form == "options" else self.like_lengths(),
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return prepare_data_loader(
            loader,
            self.args.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            use_seedable_sampler=True,
            data_seed=self.args.data_seed,
        )

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """No batch after the last step, where a run that was stopped in its evaluation resumes: Trainer would train one
        more step before it looks at the number of steps."""
        if self.state.global_step >= self.state.max_steps:
            return [], None
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def like_lengths(self) -> LikeLengths:
        lengths = [len(example.input_ids) for example, _ in self.train_dataset]
        step = self.run_config.batch_size * self.run_config.gradient_accumulation
        return LikeLengths(lengths, step, self.run_config.seed)

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        if limit := self.run_config.router_max_grad_norm:
            torch.nn.utils.clip_grad_norm_(router_parameters(model), limit)
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            parts = distributed.gathered(self.step_sums)
            sums = {name: sum(part[name] for part in parts) for name in self.step_sums}
            sums["balance_loss"] /= len(parts)
            logs |= {"accuracy": sums["right"] / max(1.0, sums["answers"]), "balance_loss": sums["balance_loss"]}
            self.step_sums = dict.fromkeys(sums, 0.0)
            logs |= self.live.told(self.state.global_step, logs["loss"] - sums["balance_loss"])
        super().log(logs, start_time)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Mean loss and accuracy over the data sets of the test rows, into the history."""
        rows = evaluate_data(self, self.test)
        self.tested = (self.state.global_step, rows)
        metrics = mean_metrics(by_dataset(rows))
        self.log(metrics)
        return metrics

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        for recorder in self.recorders:
            recorder.flush()
        folder = Path(str(self.args.output_dir))
        latest = folder / f"checkpoint-{self.state.global_step}"
        if distributed.first():
            unseal(latest)
        super()._save_checkpoint(model, trial)
        distributed.gathered(None)  # waits until each process has written the state of its own random numbers
        if distributed.first():
            seal(latest)
            rotate(folder, latest)


def evaluate_data(trainer: AdapterTrainer, data: Data) -> pd.DataFrame:
    """`evaluate_rows` in the first process, while the others wait for its table."""
    model, tokenizer = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
    config = trainer.run_config
    return distributed.together(
        lambda: evaluate_rows(model, tokenizer, data.frame, data.intuition, config.max_length, config.form)
    )


def mean_metrics(table: pd.DataFrame) -> dict[str, float]:
    return {"eval_loss": float(table["loss"].mean()), "eval_accuracy": float(table["accuracy"].mean())}


def finish(run: Run, trainer: AdapterTrainer, data: dict[str, Data], status: Status) -> None:
    """Evaluate, and write down what the run has come to."""
    step, rows = trainer.tested
    if step != trainer.state.global_step:
        rows = evaluate_data(trainer, data["test"])
    table = by_dataset(rows)
    trainer.log(mean_metrics(table))
    further = {suite: evaluate_data(trainer, data[suite]) for suite in run.config.transfer_suites or ()}
    distributed.together(lambda: write_results(run, trainer, table, {run.config.suite: rows, **further}, status))


def write_results(
    run: Run, trainer: AdapterTrainer, table: pd.DataFrame, rows: dict[str, pd.DataFrame], status: Status
) -> None:
    """Write history, evaluation (`table`), outcomes of every suite (the run's own first) and adapter, mark the run
    finished, and only then drop the checkpoints."""
    write_table(run.path / "evaluation.parquet", table)
    write_table(run.path / "outcomes.parquet", outcomes_frame(rows))
    write_table(run.path / "history.parquet", history_frame(trainer.state.log_history))
    fresh = run.path / ".adapter"
    shutil.rmtree(fresh, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.save_pretrained(str(fresh))
    hide_base_path(fresh)
    write_card(fresh, model.active_peft_config, card_facts(run.config, table))
    shutil.rmtree(run.path / "adapter", ignore_errors=True)
    os.replace(fresh, run.path / "adapter")
    status.write(FINISHED, trainer.state.global_step)
    shutil.rmtree(run.path / "checkpoints", ignore_errors=True)


def card_facts(config: TrainConfig, evaluation: pd.DataFrame) -> dict[str, Any]:
    """Data, settings and results as `model_card` takes them; a folder of data is called by its last name."""
    chosen = f"{len(config.datasets)} data sets of it" if config.datasets else "all of its data sets"
    most = f", at most {config.rows_per_dataset} rows of each" if config.rows_per_dataset else ""
    suite = config.suite.rstrip("/").rpartition("/")[2]
    settings = {
        "steps": config.steps,
        "samples per step": config.batch_size * config.gradient_accumulation,
        "optimizer": config.optimizer,
        "optimizer options": config.optimizer_options or None,
        "peak learning rate": config.lr,
        "of the router": config.router_lr,
        "schedule": config.schedule,
        "precision": config.precision,
        "embedder": config.embedder if config.clusters is not None else None,
        "seed": config.seed,
        "run": config.run_name,
    }
    results = evaluation[["dataset", "rows", "accuracy", "loss"]]
    mean = {"dataset": "mean", "rows": results["rows"].sum(), **results[["accuracy", "loss"]].mean()}
    return {
        "data": f"the suite `{suite}`, {chosen}{most}; tested on other rows of the same data sets.",
        "results": pd.concat([results, pd.DataFrame([mean])], ignore_index=True),
        **{name: one for name, one in settings.items() if one is not None},
    }
