"""The others, each as it is usually set up for such a job, with two processes that run one stage at a time."""
