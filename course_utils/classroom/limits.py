"""What one process may claim, where the system can bound it; its children can claim no more."""


def limit(megabytes):
    try:
        import resource
    except ImportError:  # Windows
        return
    bounds = {
        resource.RLIMIT_DATA: megabytes * 1_000_000,
        resource.RLIMIT_FSIZE: 1_000_000_000,  # of a file
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 1000,  # threads are counted too
    }
    for what, most in bounds.items():
        _, hard = resource.getrlimit(what)
        if hard == resource.RLIM_INFINITY or most < hard:
            resource.setrlimit(what, (most, most))
