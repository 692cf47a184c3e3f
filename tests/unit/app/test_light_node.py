import subprocess
import sys


def test_a_node_loads_no_client_for_the_web_which_is_half_of_its_memory() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import sys, app.running; print('httpx' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "False"
