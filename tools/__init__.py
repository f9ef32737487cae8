"""The scripts of ``tools/``, which an installed package has as console commands, ``cankd-train`` and so on."""
