"""The skills of the embedded suite, one file for each family of skills."""

from __future__ import annotations

from moe_analysis.tasks.generators import lists, numbers, ood, reasoning, words
from moe_analysis.tasks.generators.problem import Problem, Skill, Twist

SKILLS: tuple[Skill, ...] = (*numbers.SKILLS, *lists.SKILLS, *reasoning.SKILLS, *words.SKILLS)
OOD_SKILLS: tuple[Skill, ...] = ood.SKILLS

__all__ = ["OOD_SKILLS", "SKILLS", "Problem", "Skill", "Twist"]
