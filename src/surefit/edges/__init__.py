"""Each file here alone knows one thing outside: files, MLflow, Optuna, processes, git."""
