"""What is recorded while a model trains, in a run or in a loop of your own, and what is read from it afterward."""
