"""Many runs: `grid` says which, `executors` where they are trained, `running` trains them, `work` hands them out."""
