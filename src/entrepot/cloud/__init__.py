"""cloud (essay follows)"""
