"""The skills of the embedded suite, one file for each family of skills."""

from __future__ import annotations

from tools.generators import lists, numbers, ood, reasoning, words
from tools.generators.problem import Problem, Skill, Twist

SKILLS: tuple[Skill, ...] = (*numbers.SKILLS, *lists.SKILLS, *reasoning.SKILLS, *words.SKILLS)
OOD_SKILLS: tuple[Skill, ...] = ood.SKILLS

__all__ = ["OOD_SKILLS", "SKILLS", "Problem", "Skill", "Twist"]
