"""Studies: sweeps whose next point depends on what earlier jobs came to.

StudyOptions, SearchSpace --> Proposer (Optuna, or a user's class) <--ask, tell-- Trials --> jobs
"""
